// SPDX-License-Identifier: Apache-2.0

// One row of activations as digits of a form: `quantize_blocks` of the ISA that includes this in its
// namespace.

void quantize_row(const Digits& out, DigitForm form, const float* x, int64_t k) {
  switch (form) {
    case DigitForm::kOne: return quantize_blocks<DigitForm::kOne>(out, x, k / kBlock);
    case DigitForm::kTwo: return quantize_blocks<DigitForm::kTwo>(out, x, k / kBlock);
    default: return quantize_blocks<DigitForm::kShared>(out, x, k / kBlock);
  }
}
