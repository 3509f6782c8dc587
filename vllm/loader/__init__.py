# SPDX-License-Identifier: Apache-2.0
"""Model files to named tensors: GGUF, safetensors, config.json, random dummies.

Owns file formats and their checks. Must not know scheduling, requests or HTTP. Importing this
package, and `gguf_file` in particular, loads no torch: the command line reads metadata through it.
"""
