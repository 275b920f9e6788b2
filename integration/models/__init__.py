"""The model gateway: every model call of the platform, and the only import of LiteLLM."""

import os

# LiteLLM reads these while it is imported, by whichever module of this package comes first. Without the first it dials
# out for its price list; the second would end a stream after so many equal chunks, which is a legitimate answer.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["REPEATED_STREAMING_CHUNK_LIMIT"] = str(10**9)
os.environ.setdefault("LITELLM_LOG", "ERROR")
