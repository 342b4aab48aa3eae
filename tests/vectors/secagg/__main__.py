"""Write the vectors anew: ``python -m tests.vectors.secagg``."""

from __future__ import annotations

from tests.vectors.secagg.make import HERE, files

for stale in HERE.glob("*.json"):
    stale.unlink()
for name, text in files().items():
    (HERE / name).write_text(text, encoding="utf-8")
print(f"{len(files())} vectors in {HERE}")
