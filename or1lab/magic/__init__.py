"""MAGIC (paper section 3), one idea a file: pure functions on tensors and index lists, and their trainer.

`advantages`, `loss`, `entropy`, `schedule`, `batching` import nothing beyond torch; `trainer`, `trl_config` and `head`
know TRL.
"""
