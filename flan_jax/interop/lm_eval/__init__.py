"""lm-eval (lm-evaluation-harness): our prompts as its tasks, our models as its own."""
