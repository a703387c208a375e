"""What a recipe will need on a machine: memory, time and the layouts that fit. Arithmetic alone, no weights.

`hardware` and `architecture` are the two sides, `lengths` what is sampled, `memory` and `times` what follows; `plan`
puts a recipe's stages together, `suggest` looks for what fits or is faster. Nothing here imports torch.
"""
