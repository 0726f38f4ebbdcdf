// Walks the rows of a RowLayout in order, without a division per row.
#pragma once

namespace fastlm::cpu::FASTLM_ISA {

class RowCursor {
 public:
  RowCursor(const RowLayout& layout, int64_t row) : layout_(layout) {
    for (int d = layout.dims - 1; d >= 0; --d) {
      index_[d] = row % layout.sizes[d];
      row /= layout.sizes[d];
      offset_ += index_[d] * layout.strides[d];
    }
  }

  int64_t offset() const { return offset_; }

  void next() {
    for (int d = layout_.dims - 1; d >= 0; --d) {
      offset_ += layout_.strides[d];
      if (++index_[d] < layout_.sizes[d]) return;
      offset_ -= layout_.sizes[d] * layout_.strides[d];
      index_[d] = 0;
    }
  }

 private:
  const RowLayout& layout_;
  int64_t index_[kMaxRowDims] = {};
  int64_t offset_ = 0;
};

}  // namespace fastlm::cpu::FASTLM_ISA
