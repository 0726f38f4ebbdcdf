// Softmax over rows, forward and backward: one read of the input, one write of the output.
#pragma once

#include "kernels/cpu/cursor.h"
#include "kernels/cpu/online_softmax.h"

namespace fastlm::cpu::FASTLM_ISA {

inline bool any_kept(const KeepAll&, int64_t) { return true; }
inline bool any_kept(const KeepMasked& keep, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (keep.mask[i]) return true;
  return false;
}

// A row of exponentials that wait to be divided by their sum, chunk by chunk.
template <class T>
struct WaitingRow {
  T* out = nullptr;
  float* e = nullptr;
  float* factors = nullptr;
};

// Writes nothing, or a chunk of a waiting row in the vectors in which its exponentials were kept.
struct Nothing {
  Nothing chunk(int64_t, int64_t) const { return {}; }
  template <class Lanes>
  void operator()(int64_t, Lanes) const {}
};
template <class T>
struct Write {
  T* out;
  const float* e;
  const float* factors;
  Vec factor = splat(0.0f);
  explicit Write(const WaitingRow<T>& row) : out(row.out), e(row.e), factors(row.factors) {}
  Write chunk(int64_t begin, int64_t) const {
    Write part = *this;
    part.out += begin, part.e += begin, part.factor = splat(factors[begin / kChunk]);
    return part;
  }
  template <class Lanes>
  void operator()(int64_t i, Lanes lanes) const {
    store(out + i, load(e + i, lanes) * factor, lanes);
  }
};

// The same around the caches. Vectors lie as much later than they are asked for as makes them aligned; pairs, whose
// order of lanes is not that of memory, cannot, and have to be aligned.
template <class T>
struct WriteStreamed {
  Write<T> write;
  int64_t n = 0, head = 0;
  explicit WriteStreamed(const WaitingRow<T>& row) : write(row) {}
  WriteStreamed chunk(int64_t begin, int64_t n) const {
    WriteStreamed part = *this;
    part.write = write.chunk(begin, n), part.n = n, part.head = unaligned_head(part.write.out, n, kWidth);
    if (part.head > 0) part.write(0, Tail{static_cast<int>(part.head)});
    return part;
  }
  void operator()(int64_t i, Paired) const {
    store(write.out + i, load(write.e + i, Paired{}) * write.factor, PairedStreamed{});
  }
  template <class Lanes>
  void operator()(int64_t i, Lanes) const {
    i += head;
    if (i + kWidth <= n) {
      store(write.out + i, load(write.e + i, Whole{}) * write.factor, Streamed{});
    } else if (i < n) {
      write(i, Tail{static_cast<int>(n - i)});
    }
  }
};

// Keeps exponentials, and writes a vector of another row beside each.
template <class Writer>
struct KeepAndWrite {
  float* e;
  Writer write;
  template <class Lanes, class V>
  void operator()(int64_t i, Lanes lanes, int, V, V exponential) const {
    store(e + i, exponential, lanes);
    write(i, lanes);
  }
};

// A mask's lanes are in the order of memory.
template <class Filter>
inline constexpr bool kInPairs = std::is_same_v<Filter, KeepAll>;

// The exponentials of a row, relative to the maximum known at their chunk, and what they are then multiplied by.
// Meanwhile `write` writes another row. `maximum` as in accumulate_row.
template <class T, class Filter, class Scaling, class Writer>
inline void exponentials(const Columns<const T*, Filter>& x, const Columns<const T*, Filter>& next, float& maximum,
                         bool alongside, Scaling scaling, const WaitingRow<T>& row, const Writer& write) {
  const OnlineSum state = accumulate_row<T, kInPairs<Filter>>(
      x, next, maximum, alongside, scaling,
      [&](int64_t begin) {
        return KeepAndWrite<Writer>{row.e + begin, write.chunk(begin, x.n - begin < kChunk ? x.n - begin : kChunk)};
      },
      [&](int64_t begin, float highest, const auto&) { row.factors[begin / kChunk] = highest; });
  // Nothing above -infinity: a row that the mask empties is zero by definition, any other is 0 / 0 as elsewhere.
  const bool empty = state.maximum == -INFINITY && !any_kept(x.keep, x.n);
  const float inverse = empty ? 0.0f : static_cast<float>(1.0 / state.sum);
  for (int64_t chunk = 0; chunk * kChunk < x.n; ++chunk)
    row.factors[chunk] = inverse * rescale(row.factors[chunk], state.maximum, scaling);
}

// Each row is written while the exponentials of the next are computed, and those begin when the row after is known,
// whose first maximum they find: arithmetic and memory work at the same time.
template <class T, class Scaling, class Filter>
class SoftmaxRows {
 public:
  using Row = Columns<const T*, Filter>;
  SoftmaxRows(const SoftmaxForward& p, Scaling scaling, float* scratch)
      : p_(p),
        scaling_(scaling),
        // Reads of new memory between streamed stores of 32-bit floats slow both down.
        alongside_(!p.stream || p.cols <= kChunk || !std::is_same_v<T, float>) {
    waiting_.e = scratch, row_.e = scratch + (p.cols + kWidth - 1) / kWidth * kWidth;
    waiting_.factors = row_.e + p.cols, row_.factors = waiting_.factors + (p.cols + kChunk - 1) / kChunk;
  }
  void add(const Row& x, T* out) {
    if (row_.out == nullptr) {
      maximum_ = chunk_maximum(x.chunk(0), scaling_);
    } else {
      compute(x);
    }
    x_ = x, row_.out = out;
  }
  void finish() {
    if (row_.out == nullptr) return;
    compute(Row{nullptr, 0, x_.keep});
    write_waiting();
  }

 private:
  void compute(const Row& next) {
    if (waiting_.out == nullptr) {
      exponentials<T>(x_, next, maximum_, alongside_, scaling_, row_, Nothing{});
    } else if (streams(waiting_)) {
      exponentials<T>(x_, next, maximum_, alongside_, scaling_, row_, WriteStreamed<T>(waiting_));
    } else {
      exponentials<T>(x_, next, maximum_, alongside_, scaling_, row_, Write<T>(waiting_));
    }
    const WaitingRow<T> written = waiting_;
    waiting_ = row_, row_ = written;
  }
  bool streams(const WaitingRow<T>& row) const {
    constexpr bool kPairwise = kInPairs<Filter> && kPairs<T>;
    return p_.stream && (!kPairwise || unaligned_head(row.out, p_.cols, kWidth) == 0);
  }
  void write_waiting() const {
    for (int64_t begin = 0; begin < p_.cols; begin += kChunk) {
      const int64_t rest = p_.cols - begin, n = rest < kChunk ? rest : kChunk;
      const auto write = Write<T>(waiting_).chunk(begin, n);
      const auto write_vector = [&](int64_t i, auto lanes, int) { write(i, lanes); };
      if constexpr (kInPairs<Filter>) {
        for_each_pair_from<T>(0, n, write_vector);
      } else {
        for_each_vector(n, write_vector);
      }
    }
  }

  const SoftmaxForward& p_;
  Scaling scaling_;
  Row x_{};
  float maximum_ = 0.0f;  // of x_'s first chunk
  bool alongside_;
  WaitingRow<T> row_, waiting_;  // of x_, and of the row before
};

template <class T, class Scaling>
inline void softmax_rows(const SoftmaxForward& p, Scaling scaling, int64_t begin, int64_t end, float* scratch) {
  const int64_t n = p.cols;
  RowCursor x_row(p.x_rows, begin), mask_row(p.mask_rows, begin);
  const auto run = [&](auto keep_of) {
    SoftmaxRows<T, Scaling, decltype(keep_of(p.mask))> rows(p, scaling, scratch);
    for (int64_t r = begin; r < end; ++r, x_row.next(), mask_row.next()) {
      const uint8_t* const mask = p.mask == nullptr ? nullptr : p.mask + mask_row.offset();
      T* const out = static_cast<T*>(p.out) + r * n;
      if (p.mask_per_row && mask != nullptr && !*mask) {
        std::memset(out, 0, static_cast<size_t>(n) * sizeof(T));
      } else {
        rows.add({static_cast<const T*>(p.x) + x_row.offset(), n, keep_of(mask)}, out);
      }
    }
    rows.finish();
  };
  if (p.mask == nullptr || p.mask_per_row) {
    run([](const uint8_t*) { return KeepAll{}; });
  } else {
    run([](const uint8_t* mask) { return KeepMasked{mask}; });
  }
  if (p.stream) end_stream();
}

template <class T>
void softmax_forward(const SoftmaxForward& p, int64_t begin, int64_t end, float* scratch) {
  if (p.scale == 1.0f) return softmax_rows<T>(p, Unscaled{}, begin, end, scratch);
  softmax_rows<T>(p, Scaled{p.scale}, begin, end, scratch);
}

// The sum of grad * y.
template <class T>
inline float dot_product(const T* grad, const T* y, int64_t n) {
  Sum dot;
  for_each_pair_from<T>(0, n, [&](int64_t i, auto lanes, int slot) {
    if constexpr (std::is_same_v<decltype(lanes), Paired>) {
      dot.slots[slot] = add_products(dot.slots[slot], grad + i, y + i);
    } else {
      dot.add_product(slot, load(grad + i, lanes), load(y + i, lanes));
    }
  });
  return dot.total();
}

// A short row's sum is found before the row ahead of it is written, which hides its latency.
template <class T, class Scaling>
inline void softmax_backward_rows(const SoftmaxBackward& p, Scaling scaling, int64_t begin, int64_t end) {
  struct Row {
    const T *grad, *y;
  };
  const int64_t n = p.cols;
  RowCursor grad_row(p.grad_y_rows, begin), y_row(p.y_rows, begin);
  const auto next_row = [&] {
    const Row row{static_cast<const T*>(p.grad_y) + grad_row.offset(), static_cast<const T*>(p.y) + y_row.offset()};
    grad_row.next();
    y_row.next();
    return row;
  };
  const auto write = [&](int64_t index, const Row& row, float dot) {
    T* const out = static_cast<T*>(p.grad_x) + index * n;
    const Vec shift = splat(dot);
    for_each_pair_to(out, n, p.stream, [&](int64_t i, auto lanes, int) {
      const auto centred = load(row.grad + i, read(lanes)) - shift;
      store(out + i, scaling.apply(centred * load(row.y + i, read(lanes))), lanes);
    });
  };
  const bool ahead = n <= kChunk;
  Row waiting{};
  float waiting_dot = 0.0f;
  for (int64_t index = begin; index < end; ++index) {
    const Row row = next_row();
    const float dot = dot_product(row.grad, row.y, n);
    if (!ahead) {
      write(index, row, dot);
      continue;
    }
    if (index > begin) write(index - 1, waiting, waiting_dot);
    waiting = row, waiting_dot = dot;
  }
  if (ahead && end > begin) write(end - 1, waiting, waiting_dot);
  if (p.stream) end_stream();
}

template <class T>
void softmax_backward(const SoftmaxBackward& p, int64_t begin, int64_t end, float*) {
  if (p.scale == 1.0f) return softmax_backward_rows<T>(p, Unscaled{}, begin, end);
  softmax_backward_rows<T>(p, Scaled{p.scale}, begin, end);
}

}  // namespace fastlm::cpu::FASTLM_ISA
