"""liboscar in Hugging Face transformers.

    from oscar.hf import OscarCache

    model.generate(**inputs, past_key_values=OscarCache(model, profile="2bit"))

Needs torch and transformers: ``pip install 'liboscar[hf]'``. docs/hf.md says what is served, and what is refused.
"""

from .versions import require

require()

from .cache import OscarCache  # noqa: E402
from .calibrate import calibrate  # noqa: E402

__all__ = ["OscarCache", "calibrate"]
