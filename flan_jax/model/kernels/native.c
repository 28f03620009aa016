/* Kernels for decoding on a CPU: few tokens, many weights. native.py compiles this file.

flan_product is y = x @ w for few rows of x, reading w once, at the speed of memory. x is
float32 [rows, inputs]. w is [panels, inputs, WIDTH], float32, bfloat16 or int8: a panel
holds WIDTH outputs, so that a product reads it from end to end. An output's terms are
added in the order of the inputs, however many rows there are: a row's values do not
depend on its neighbors.

flan_attend is attention of one token to the slots of a cache that are in use. */

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "xla/ffi/api/c_api.h"

#define LANES 8
#define VECTORS 3
#define WIDTH (LANES * VECTORS)
#define ROWS 4            /* ROWS * VECTORS sums and VECTORS columns fit in registers */
#define GRAIN (256 << 10) /* bytes of w that are worth a thread's task */
#define DEPTH 2048
#define LINE 64

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));

#define INLINE static inline __attribute__((always_inline))

#ifdef __AVX2__
#include <immintrin.h>
/* Keeps a column in its register: as an operand it would be loaded for every row. */
#define KEEP(column) __asm__("" : "+x"(column))
INLINE floats read_bfloat16(const char *at) {
  __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at));
  return (floats)_mm256_slli_epi32(wide, 16);
}
INLINE floats read_int8(const char *at) {
  __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)at));
  return (floats)_mm256_cvtepi32_ps(wide);
}
#else
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));
typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1)));
#define KEEP(column)
INLINE floats read_bfloat16(const char *at) {
  return (floats)(__builtin_convertvector(*(const halves *)at, words) << 16);
}
INLINE floats read_int8(const char *at) {
  return __builtin_convertvector(*(const bytes *)at, floats);
}
#endif
INLINE floats read_float32(const char *at) { return *(const floats *)at; }

/* Parts of one call, which threads take `grain` at a time. */
typedef struct job {
  void (*run)(const struct job *, int64_t part);
  int64_t parts, grain;
  atomic_llong next, done;
  atomic_int holders; /* tasks that may still look at this */
} job;

typedef struct {
  job job;
  const float *x, *scale; /* scale: a factor on each output, or NULL */
  const char *w;
  float *y;
  int64_t rows, inputs, outputs, size; /* size: bytes of a value of w */
} product;

/* One panel times up to ROWS rows. Meanwhile a share of the next panel is prefetched:
   memory is read while several groups of rows use what is there already. */
#define DEFINE_BLOCK(TYPE, SIZE)                                                      \
  INLINE void block_##TYPE(const int rows, const product *p, const float *x,          \
                           const char *w, int64_t depth, const char *ahead,           \
                           int64_t step, float (*out)[WIDTH]) {                       \
    floats sum[ROWS][VECTORS];                                                        \
    for (int r = 0; r < rows; r++)                                                    \
      for (int v = 0; v < VECTORS; v++) sum[r][v] = *(floats *)&out[r][v * LANES];    \
    for (int64_t k = 0; k < depth; k++) {                                             \
      floats column[VECTORS];                                                         \
      for (int v = 0; v < VECTORS; v++) {                                             \
        column[v] = read_##TYPE(w + v * LANES * SIZE);                                \
        KEEP(column[v]);                                                              \
      }                                                                               \
      __builtin_prefetch(ahead);                                                      \
      if (SIZE == 4 && rows < ROWS) __builtin_prefetch(ahead + LINE);                 \
      ahead += step;                                                                  \
      for (int r = 0; r < rows; r++)                                                  \
        for (int v = 0; v < VECTORS; v++)                                             \
          sum[r][v] += x[r * p->inputs + k] * column[v];                              \
      w += WIDTH * SIZE;                                                              \
    }                                                                                 \
    for (int r = 0; r < rows; r++)                                                    \
      for (int v = 0; v < VECTORS; v++) *(floats *)&out[r][v * LANES] = sum[r][v];    \
  }                                                                                   \
  INLINE void rows_##TYPE(const int64_t rows, const product *p, const float *x,       \
                          const char *w, int64_t depth, const char *ahead,            \
                          int64_t step, float (*out)[WIDTH]) {                        \
    switch (rows) {                                                                   \
      case 1: block_##TYPE(1, p, x, w, depth, ahead, step, out); break;               \
      case 2: block_##TYPE(2, p, x, w, depth, ahead, step, out); break;               \
      case 3: block_##TYPE(3, p, x, w, depth, ahead, step, out); break;               \
      default: block_##TYPE(ROWS, p, x, w, depth, ahead, step, out);                  \
    }                                                                                 \
  }

DEFINE_BLOCK(float32, 4)
DEFINE_BLOCK(bfloat16, 2)
DEFINE_BLOCK(int8, 1)

/* One panel times all rows, over up to DEPTH inputs: a part stays in the cache. */
static void multiply_part(const product *p, int64_t panel, int64_t start) {
  const int64_t first = panel * WIDTH, line = WIDTH * p->size;
  const int64_t wide = p->outputs - first < WIDTH ? p->outputs - first : WIDTH;
  const int64_t depth = p->inputs - start < DEPTH ? p->inputs - start : DEPTH;
  const char *w = p->w + (panel * p->inputs + start) * line;
  const int64_t blocks = (p->rows + ROWS - 1) / ROWS;
  const int64_t step = (line + blocks - 1) / blocks;
  const float *scale = start + depth == p->inputs ? p->scale : NULL;
  for (int64_t block = 0; block < blocks; block++) {
    const int64_t row = block * ROWS;
    const int64_t rows = p->rows - row < ROWS ? p->rows - row : ROWS;
    const float *x = p->x + row * p->inputs + start;
    const char *ahead = w + depth * line + block * step * depth;
    float out[ROWS][WIDTH] = {{0}};
    float *y = p->y + row * p->outputs + first;
    if (start)
      for (int64_t r = 0; r < rows; r++)
        memcpy(out[r], y + r * p->outputs, wide * sizeof(float));
    if (p->size == 4)
      rows_float32(rows, p, x, w, depth, ahead, step, out);
    else if (p->size == 2)
      rows_bfloat16(rows, p, x, w, depth, ahead, step, out);
    else
      rows_int8(rows, p, x, w, depth, ahead, step, out);
    for (int64_t r = 0; r < rows; r++) {
      if (scale)
        for (int64_t o = 0; o < wide; o++) out[r][o] *= scale[first + o];
      memcpy(y + r * p->outputs, out[r], wide * sizeof(float));
    }
  }
}

static void multiply(const job *job, int64_t panel) {
  const product *p = (const product *)job;
  for (int64_t start = 0; start < p->inputs; start += DEPTH)
    multiply_part(p, panel, start);
}

/* e**x for x <= 0; 0 far below. */
INLINE floats exponential(floats x) {
  typedef int32_t integers __attribute__((vector_size(4 * LANES)));
  const floats least = (floats){0} - 87.0f;
  const integers low = x < least;
  x = (floats)(((integers)x & ~low) | ((integers)least & low));
  const integers n = __builtin_convertvector(x * 1.44269504f - 0.5f, integers);
  const floats whole = __builtin_convertvector(n, floats);
  const floats r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
  floats y = r * 1.98756915e-4f + 1.39819995e-3f;
  y = y * r + 8.33345190e-3f;
  y = y * r + 4.16657960e-2f;
  y = y * r + 1.66666654e-1f;
  y = y * r + 5.00000012e-1f;
  y = y * r * r + r + 1.0f;
  return (floats)((integers)(y * (floats)((n + 127) << 23)) & ~low);
}

INLINE float sum_of(floats x) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += x[i];
  return sum;
}

typedef struct {
  job job;
  const float *queries, *keys, *values;
  const uint8_t *mask;
  float *y;
  int64_t heads, group, slots, channels; /* heads of keys; queries of each */
} attention;

/* The queries of one head of keys, of one sequence. */
static void attend(const job *job, int64_t part) {
  const attention *a = (const attention *)job;
  const int64_t C = a->channels, vectors = C / LANES;
  const float *queries = a->queries + part * a->group * C;
  const float *keys = a->keys + part * a->slots * C;
  const float *values = a->values + part * a->slots * C;
  const uint8_t *mask = a->mask + part / a->heads * a->slots;
  float *y = a->y + part * a->group * C;
  memset(y, 0, a->group * C * sizeof(float));
  const int64_t room = (a->slots + LANES - 1) / LANES * LANES;
  int32_t *used = malloc(room * (sizeof(int32_t) + sizeof(float)));
  float *weights = (float *)(used + room);
  int64_t n = 0;
  for (int64_t s = 0; s < a->slots; s++)
    if (mask[s]) used[n++] = s;
  for (int64_t g = 0; n && g < a->group; g++) {
    const float *query = queries + g * C;
    float most = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
      const float *key = keys + used[i] * C;
      floats sum[2] = {{0}, {0}};
      for (int64_t v = 0; v < vectors; v++)
        sum[v & 1] += *(floats *)(query + v * LANES) * *(floats *)(key + v * LANES);
      weights[i] = sum_of(sum[0] + sum[1]);
      if (!(weights[i] <= most)) most = weights[i]; /* NaN, too */
    }
    for (int64_t i = n; i % LANES; i++) weights[i] = -INFINITY;
    floats total = {0};
    for (int64_t i = 0; i < n; i += LANES) {
      const floats w = exponential(*(floats *)(weights + i) - most);
      *(floats *)(weights + i) = w;
      total += w;
    }
    const float share = 1 / sum_of(total);
    for (int64_t v = 0; v < vectors; v += 4) {
      const int64_t wide = vectors - v < 4 ? vectors - v : 4;
      floats sum[4] = {{0}, {0}, {0}, {0}};
      for (int64_t i = 0; i < n; i++) {
        const float *value = values + used[i] * C + v * LANES;
        if (wide == 4)
          for (int j = 0; j < 4; j++)
            sum[j] += weights[i] * *(floats *)(value + j * LANES);
        else
          for (int j = 0; j < wide; j++)
            sum[j] += weights[i] * *(floats *)(value + j * LANES);
      }
      for (int j = 0; j < wide; j++)
        *(floats *)(y + g * C + (v + j) * LANES) = sum[j] * share;
    }
  }
  free(used);
}

/* Takes parts until none is left. A task that comes late finds none. */
static void work(job *p) {
  for (;;) {
    const int64_t first = atomic_fetch_add(&p->next, p->grain);
    if (first >= p->parts) return;
    const int64_t end = first + p->grain < p->parts ? first + p->grain : p->parts;
    for (int64_t part = first; part < end; part++) p->run(p, part);
    atomic_fetch_add(&p->done, end - first);
  }
}

static void release(job *p) {
  if (atomic_fetch_sub(&p->holders, 1) == 1) free(p);
}

static void task(void *data) {
  work(data);
  release(data);
}

static int failed(XLA_FFI_CallFrame *frame, XLA_FFI_Error *error) {
  if (!error) return 0;
  XLA_FFI_Error_Destroy_Args args = {XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, NULL,
                                     error};
  frame->api->XLA_FFI_Error_Destroy(&args);
  return 1;
}

static int64_t threads(XLA_FFI_CallFrame *frame) {
  int64_t found = 1;
  XLA_FFI_ThreadPool_NumThreads_Args args = {
      XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, NULL, frame->ctx, &found};
  return failed(frame, frame->api->XLA_FFI_ThreadPool_NumThreads(&args)) ? 1 : found;
}

/* Runs all parts, in as many threads as `bytes` of work are worth; frees the job. */
static void run(XLA_FFI_CallFrame *frame, job *p, int64_t bytes) {
  int64_t tasks = bytes / GRAIN;
  if (tasks > 1) {
    const int64_t most = threads(frame);
    if (tasks > most) tasks = most;
  }
  if (tasks < 1) tasks = 1;
  p->grain = tasks == 1 ? p->parts : (p->parts + 8 * tasks - 1) / (8 * tasks);
  atomic_init(&p->next, 0);
  atomic_init(&p->done, 0);
  atomic_init(&p->holders, 1);
  for (int64_t i = 1; i < tasks; i++) {
    atomic_fetch_add(&p->holders, 1);
    XLA_FFI_ThreadPool_Schedule_Args args = {
        XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, NULL, frame->ctx, task, p};
    if (failed(frame, frame->api->XLA_FFI_ThreadPool_Schedule(&args))) release(p);
  }
  work(p);
  while (atomic_load(&p->done) < p->parts) sched_yield(); /* others end theirs */
  release(p);
}

/* Answers XLA's question for the version; returns whether it was one. */
static int asked_for_version(XLA_FFI_CallFrame *frame) {
  XLA_FFI_Extension_Base *extension = frame->extension_start;
  if (!extension || extension->type != XLA_FFI_Extension_Metadata) return 0;
  XLA_FFI_Api_Version *version =
      &((XLA_FFI_Metadata_Extension *)extension)->metadata->api_version;
  version->major_version = XLA_FFI_API_MAJOR;
  version->minor_version = XLA_FFI_API_MINOR;
  return 1;
}

XLA_FFI_Error *flan_product(XLA_FFI_CallFrame *frame) {
  if (asked_for_version(frame)) return NULL;
  XLA_FFI_Buffer **in = (XLA_FFI_Buffer **)frame->args.args;
  XLA_FFI_Buffer *out = (XLA_FFI_Buffer *)frame->rets.rets[0];
  const XLA_FFI_DataType dtype = in[1]->dtype;
  product *p = malloc(sizeof *p);
  p->job.run = multiply;
  p->job.parts = in[1]->dims[0];
  p->x = in[0]->data;
  p->w = in[1]->data;
  p->scale = frame->args.size > 2 ? in[2]->data : NULL;
  p->y = out->data;
  p->rows = in[0]->dims[0];
  p->inputs = in[0]->dims[1];
  p->outputs = out->dims[1];
  p->size = dtype == XLA_FFI_DataType_F32 ? 4 : dtype == XLA_FFI_DataType_BF16 ? 2 : 1;
  run(frame, &p->job, p->job.parts * p->inputs * WIDTH * p->size);
  return NULL;
}

XLA_FFI_Error *flan_attend(XLA_FFI_CallFrame *frame) {
  if (asked_for_version(frame)) return NULL;
  XLA_FFI_Buffer **in = (XLA_FFI_Buffer **)frame->args.args;
  XLA_FFI_Buffer *out = (XLA_FFI_Buffer *)frame->rets.rets[0];
  attention *a = malloc(sizeof *a);
  a->job.run = attend;
  a->job.parts = in[0]->dims[0] * in[0]->dims[1];
  a->queries = in[0]->data;
  a->keys = in[1]->data;
  a->values = in[2]->data;
  a->mask = in[3]->data;
  a->y = out->data;
  a->heads = in[0]->dims[1];
  a->group = in[0]->dims[2];
  a->channels = in[0]->dims[3];
  a->slots = in[1]->dims[2];
  run(frame, &a->job, 8 * a->job.parts * a->slots * a->channels);
  return NULL;
}
