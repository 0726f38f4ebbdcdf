// The CPU kernels alone, without torch, under sanitizers: every instruction set that this machine runs, odd lengths,
// unaligned rows, buffers of the exact size. Prints one line per instruction set; exits 1 on the first fault. Compiled
// and run by test_kernels_sanitized.py, whose argument says how rows and heads are dealt (kDeals).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/parallel.h"
#include "kernels/rows.h"

using namespace fastlm;
using namespace fastlm::cpu;

namespace {

using Body = void (*)(int64_t begin, int64_t end, void* context);

// Three uneven pieces, the last first: what is computed may not depend on it.
void backwards_in_pieces(int64_t begin, int64_t end, int64_t, Body body, void* context) {
  const int64_t third = begin + (end - begin) / 3;
  const int64_t half = begin + (end - begin) / 2;
  body(half, end, context);
  if (half > third) body(third, half, context);
  if (third > begin) body(begin, third, context);
}

// As torch deals, but whatever the grain: equal ranges, a thread each. Nothing orders the threads, so that memory which
// one writes and another touches is a race to the thread sanitizer, whether or not they met.
void on_threads_reaching(int64_t reach, int64_t begin, int64_t end, Body body, void* context) {
  constexpr int64_t kThreads = 4;
  if (end - begin == 1) return body(begin, end, context);
  const int64_t step = (end - begin + kThreads - 1) / kThreads;
  std::vector<std::thread> threads;
  for (int64_t first = begin; first < end; first += step)
    threads.emplace_back(body, first, std::min(first + reach * step, end), context);
  for (std::thread& thread : threads) thread.join();
}
void on_threads(int64_t begin, int64_t end, int64_t, Body body, void* context) {
  on_threads_reaching(1, begin, end, body, context);
}
// The fault that the sanitizer has to find: each range reaches over its neighbour.
void overlapping(int64_t begin, int64_t end, int64_t, Body body, void* context) {
  on_threads_reaching(2, begin, end, body, context);
}

struct Deal {
  const char* name;
  ParallelFor parallel_for;
};
constexpr Deal kDeals[] = {{"pieces", backwards_in_pieces}, {"threads", on_threads}, {"overlapping", overlapping}};
ParallelFor deal = backwards_in_pieces;

// Overlapping ranges compute nonsense.
void require(bool condition, const char* isa, const char* what, double value) {
  if (condition || deal == overlapping) return;
  std::printf("FAILED %s: %s (%g)\n", isa, what, value);
  std::exit(1);
}

struct FreeAligned {
  void operator()(void* p) const { ::operator delete[](p, std::align_val_t{64}); }
};

// A row-major matrix in a heap block of exactly its size, `pad` elements into it, so that one element too many is a
// fault, and nothing is aligned unless pad is 0.
template <class T>
struct Matrix {
  int64_t rows, cols, stride;
  std::unique_ptr<T[], FreeAligned> block;
  T* data;
  Matrix(int64_t rows, int64_t cols, int64_t stride, int64_t pad = 1)
      : rows(rows),
        cols(cols),
        stride(stride),
        block(new (std::align_val_t{64}) T[pad + (rows - 1) * stride + cols]),
        data(block.get() + pad) {}
  T* row(int64_t r) { return data + r * stride; }
};

float to_float(float a) { return a; }
float to_float(BFloat16 a) {
  const uint32_t bits = static_cast<uint32_t>(a.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
float to_float(Half a) {
  const int exponent = (a.bits >> 10) & 31, fraction = a.bits & 1023;
  const float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                          : exponent     ? std::ldexp(1024.0f + fraction, exponent - 25)
                                         : std::ldexp(static_cast<float>(fraction), -24);
  return a.bits & 0x8000 ? -magnitude : magnitude;
}

// Small values that every type holds exactly.
void set(float& a, int k) { a = static_cast<float>(k) / 8; }
void set(BFloat16& a, int k) {
  const float value = static_cast<float>(k) / 8;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  a.bits = static_cast<uint16_t>(bits >> 16);
}
void set(Half& a, int k) {
  a.bits = 0;
  if (k == 0) return;
  int exponent;
  const float fraction = std::frexp(std::fabs(static_cast<float>(k)) / 8, &exponent);
  a.bits = static_cast<uint16_t>((k < 0 ? 0x8000 : 0) | ((exponent + 14) << 10) |
                                 (static_cast<int>(fraction * 2048) - 1024));
}

template <class T>
constexpr int kType = std::is_same_v<T, float>      ? 0
                      : std::is_same_v<T, BFloat16> ? 1
                                                    : 2;
constexpr double kEps[] = {1.2e-7, 3.9e-3, 4.9e-4};

RowLayout layout_of(int64_t rows, int64_t stride) {
  RowLayout layout;
  make_row_layout(1, &rows, &stride, &layout);
  return layout;
}

// Every other row lies this far, in eighths, from the one before: a row that is taken relative to its neighbour's
// maximum overflows or vanishes.
int level(int64_t row) { return row % 2 == 0 ? 0 : -1600; }

enum class Masked { kNothing, kColumns, kRows };

template <class T>
void check_softmax(const KernelTable& table, int64_t n, Masked masked, float scale, bool stream, bool aligned) {
  constexpr int64_t kRows = 5;
  const int64_t pad = aligned ? 0 : 1;
  Matrix<T> x(kRows, n, n + 3), grad_y(kRows, n, n), out(kRows, n, n, pad), grad(kRows, n, n, pad);
  std::vector<uint8_t> mask(masked == Masked::kRows ? kRows : n);
  for (size_t i = 0; i < mask.size(); ++i) mask[i] = (i * 7) % 3 != (masked == Masked::kRows ? 1 : 0);
  const auto kept = [&](int64_t r, int64_t i) {
    return masked == Masked::kNothing || mask[masked == Masked::kRows ? r : i];
  };
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 0; i < n; ++i) {
      set(x.row(r)[i], level(r) + static_cast<int>((r * 31 + i * 17) % 64 + 8 * (i / kChunk)) - 40);
      set(grad_y.row(r)[i], static_cast<int>((r * 5 + i * 29) % 64) - 30);
    }
  SoftmaxForward forward{};
  forward.rows = kRows, forward.cols = n, forward.x = x.data, forward.x_rows = layout_of(kRows, x.stride);
  forward.mask = masked == Masked::kNothing ? nullptr : mask.data();
  forward.mask_rows = layout_of(kRows, masked == Masked::kRows ? 1 : 0);
  forward.mask_per_row = masked == Masked::kRows;
  forward.scale = scale, forward.out = out.data, forward.stream = stream;
  for_rows(deal, table.softmax_forward[kType<T>], forward);

  SoftmaxBackward backward{};
  backward.rows = kRows, backward.cols = n;
  backward.grad_y = grad_y.data, backward.grad_y_rows = layout_of(kRows, n);
  backward.y = out.data, backward.y_rows = layout_of(kRows, n);
  backward.scale = scale, backward.grad_x = grad.data, backward.stream = stream;
  for_rows(deal, table.softmax_backward[kType<T>], backward);

  for (int64_t r = 0; r < kRows; ++r) {
    double sum = 0.0, dot = 0.0;
    const auto exponential = [&](int64_t i) { return std::exp(scale * (to_float(x.row(r)[i]) - level(r) / 8.0)); };
    for (int64_t i = 0; i < n; ++i) {
      if (kept(r, i)) sum += exponential(i);
      dot += to_float(grad_y.row(r)[i]) * static_cast<double>(to_float(out.row(r)[i]));
    }
    for (int64_t i = 0; i < n; ++i) {
      const double want = kept(r, i) ? exponential(i) / sum : 0.0;
      const double error = std::fabs(to_float(out.row(r)[i]) - want);
      require(error <= 2 * kEps[kType<T>] * want + 1e-7, table.isa, "softmax forward", error);
      const double slope = scale * to_float(out.row(r)[i]) * (to_float(grad_y.row(r)[i]) - dot);
      const double slope_error = std::fabs(to_float(grad.row(r)[i]) - slope);
      require(slope_error <= 2 * kEps[kType<T>] * (std::fabs(slope) + 1), table.isa, "softmax backward", slope_error);
    }
  }
}

template <class T>
void check_cross_entropy(const KernelTable& table, int64_t n, bool stream) {
  constexpr int64_t kRows = 9;
  constexpr double kSmoothing = 0.1;
  Matrix<T> x(kRows, n, n + 1), grad(kRows, n, n);
  std::vector<int64_t> targets = {-100, 0, n, INT64_MIN, -1, n - 1, -100, -100, n / 2};
  std::vector<float> loss(kRows), g(kRows, 2.0f);
  std::vector<double> lse(kRows);
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 0; i < n; ++i) set(x.row(r)[i], level(r) + static_cast<int>((r * 13 + i * 29) % 96) - 40);
  const CrossEntropyTargets where{targets.data(), 1, -100};
  const CrossEntropyForward forward{kRows, n, x.data, x.stride, where, kSmoothing, loss.data(), lse.data()};
  for_rows(deal, table.cross_entropy_forward[kType<T>], forward);
  const CrossEntropyBackward backward{kRows,    n, x.data,     x.stride, where,     kSmoothing,
                                      g.data(), 1, lse.data(), 1,        grad.data, stream};
  for_rows(deal, table.cross_entropy_backward[kType<T>], backward);

  for (int64_t r = 0; r < kRows; ++r) {
    if (targets[r] == -100) {
      require(loss[r] == 0.0f, table.isa, "loss of an ignored row", loss[r]);
      for (int64_t i = 0; i < n; ++i) require(to_float(grad.row(r)[i]) == 0.0f, table.isa, "ignored gradient", i);
      continue;
    }
    if (targets[r] < 0 || targets[r] >= n) {
      require(std::isnan(loss[r]), table.isa, "loss of an out-of-range target", loss[r]);
      for (int64_t i = 0; i < n; ++i) require(std::isnan(to_float(grad.row(r)[i])), table.isa, "its gradient", i);
      continue;
    }
    double sum = 0.0, total = 0.0;
    for (int64_t i = 0; i < n; ++i) {
      const double value = to_float(x.row(r)[i]);
      sum += std::exp(value), total += value;
    }
    const double exact_lse = std::log(sum), mean = total / static_cast<double>(n);
    const double want = exact_lse - (1 - kSmoothing) * to_float(x.row(r)[targets[r]]) - kSmoothing * mean;
    require(std::fabs(loss[r] - want) <= 2e-5, table.isa, "loss", loss[r] - want);
    for (int64_t i = 0; i < n; ++i) {
      const double hit = i == targets[r] ? 1 - kSmoothing : 0.0;
      const double slope =
          2 * (std::exp(to_float(x.row(r)[i]) - exact_lse) - kSmoothing / static_cast<double>(n) - hit);
      const double error = std::fabs(to_float(grad.row(r)[i]) - slope);
      require(error <= 2 * kEps[kType<T>] * std::fabs(slope) + 2e-5, table.isa, "gradient", error);
    }
  }
}

// Packed sequences, some empty, one with rows to spare after it, as views of one QKV block with a gap between its rows.
struct Packed {
  std::vector<int32_t> cu_q, cu_k;
  int64_t rows_q, rows_k;
};

// Philox4x32-7, written out from fastlm/ops/philox.py.
uint32_t philox_word(uint64_t seed, std::array<uint32_t, 4> c, int64_t word) {
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 7; ++round, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
  }
  return c[word];
}

uint32_t dropout_word(uint64_t seed, uint32_t key, uint32_t row, uint32_t head) {
  return philox_word(seed, {key / 4, row, head, 0}, key % 4);
}

// One head of one sequence in double precision, added to what is expected.
struct ExactHead {
  int64_t queries, keys, width;
  std::vector<double> out, grad_q, grad_k, grad_v;
  template <class Q, class K, class V, class G, class Keep>
  ExactHead(int64_t queries, int64_t keys, int64_t width, bool causal, double scale, Q q, K k, V v, G g, Keep keep)
      : queries(queries),
        keys(keys),
        width(width),
        out(queries * width),
        grad_q(queries * width),
        grad_k(keys * width),
        grad_v(keys * width) {
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t seen = causal ? std::min(keys, std::max<int64_t>(0, i + keys - queries + 1)) : keys;
      std::vector<double> p(seen), dp(seen);
      double sum = 0.0, delta = 0.0;
      for (int64_t j = 0; j < seen; ++j) {
        double dot = 0.0;
        for (int64_t d = 0; d < width; ++d) dot += q(i, d) * k(j, d);
        sum += p[j] = std::exp(scale * dot);
      }
      for (int64_t j = 0; j < seen; ++j) {
        p[j] /= sum;
        for (int64_t d = 0; d < width; ++d) {
          out[i * width + d] += p[j] * keep(i, j) * v(j, d);
          grad_v[j * width + d] += p[j] * keep(i, j) * g(i, d);
          dp[j] += keep(i, j) * g(i, d) * v(j, d);
        }
        delta += p[j] * dp[j];
      }
      for (int64_t j = 0; j < seen; ++j)
        for (int64_t d = 0; d < width; ++d) {
          grad_q[i * width + d] += p[j] * (dp[j] - delta) * scale * k(j, d);
          grad_k[j * width + d] += p[j] * (dp[j] - delta) * scale * q(i, d);
        }
    }
  }
};

template <class T>
void check_attention(const KernelTable& table, const Packed& packed, int64_t width, bool causal, double dropout) {
  constexpr int64_t kHeads = 2;
  const int64_t cols = kHeads * width, rows_q = packed.rows_q, rows_k = packed.rows_k;
  const int64_t odd = 2 * cols + 3;  // an odd stride: pairs of bfloat16 are then not aligned
  Matrix<T> q(rows_q, cols, odd), k(rows_k, cols, odd), v(rows_k, cols, cols), g(rows_q, cols, odd);
  Matrix<T> out(rows_q, cols, cols), grad_q(rows_q, cols, cols), grad_k(rows_k, cols, cols), grad_v(rows_k, cols, cols);
  int state = 1;
  for (Matrix<T>* x : {&q, &k, &v, &g})
    for (int64_t r = 0; r < x->rows; ++r)
      for (int64_t i = 0; i < cols; ++i) set(x->row(r)[i], (state = state * 75 % 65537) % 19 - 9);
  std::vector<float> lse(kHeads * rows_q);
  AttentionShape shape{};
  shape.sequences = static_cast<int64_t>(packed.cu_q.size()) - 1, shape.heads = kHeads, shape.head_dim = width;
  shape.cu_seqlens_q = packed.cu_q.data(), shape.cu_seqlens_k = packed.cu_k.data();
  for (int64_t b = 0; b < shape.sequences; ++b) {
    shape.max_seqlen_q = std::max<int64_t>(shape.max_seqlen_q, packed.cu_q[b + 1] - packed.cu_q[b]);
    shape.max_seqlen_k = std::max<int64_t>(shape.max_seqlen_k, packed.cu_k[b + 1] - packed.cu_k[b]);
  }
  shape.q = {q.data, q.stride, width}, shape.k = {k.data, k.stride, width}, shape.v = {v.data, v.stride, width};
  shape.causal = causal, shape.scale = 0.25f;
  shape.dropout.threshold = static_cast<uint64_t>(dropout * 0x1p32), shape.dropout.seed = 0x123456789abcdef;
  shape.dropout.keep_scale = static_cast<float>(1.0 / (1.0 - static_cast<double>(shape.dropout.threshold) * 0x1p-32));
  const AttentionForward forward{shape, out.data, lse.data(), rows_q};
  for_heads(deal, table.attention_forward[kType<T>], table.attention_forward_scratch(shape), forward);
  const AttentionBackward backward{shape,
                                   {g.data, g.stride, width},
                                   {out.data, out.stride, width},
                                   lse.data(),
                                   rows_q,
                                   grad_q.data,
                                   grad_k.data,
                                   grad_v.data};
  for_heads(deal, table.attention_backward[kType<T>], table.attention_backward_scratch(shape), backward);

  for (int64_t b = 0; b < shape.sequences; ++b)
    for (int64_t h = 0; h < kHeads; ++h) {
      const int64_t first_q = packed.cu_q[b], first_k = packed.cu_k[b];
      const auto at = [&](Matrix<T>& x, int64_t first) {
        return [&x, first, h, width](int64_t r, int64_t d) {
          return static_cast<double>(to_float(x.row(first + r)[h * width + d]));
        };
      };
      const auto keep = [&](int64_t i, int64_t j) {
        const uint32_t word = dropout_word(shape.dropout.seed, static_cast<uint32_t>(j),
                                           static_cast<uint32_t>(first_q + i), static_cast<uint32_t>(h));
        return word >= shape.dropout.threshold ? static_cast<double>(shape.dropout.keep_scale) : 0.0;
      };
      const ExactHead exact(packed.cu_q[b + 1] - first_q, packed.cu_k[b + 1] - first_k, width, causal, shape.scale,
                            at(q, first_q), at(k, first_k), at(v, first_k), at(g, first_q), keep);
      const auto compare = [&](Matrix<T>& ours, int64_t first, const std::vector<double>& wanted, const char* what) {
        double largest = 0.0, worst = 0.0;
        for (size_t i = 0; i < wanted.size(); ++i) {
          const auto r = static_cast<int64_t>(i) / width, d = static_cast<int64_t>(i) % width;
          largest = std::fmax(largest, std::fabs(wanted[i]));
          worst = std::fmax(worst, std::fabs(to_float(ours.row(first + r)[h * width + d]) - wanted[i]));
        }
        require(worst <= 4 * kEps[kType<T>] * largest + 4e-6, table.isa, what, worst);
      };
      compare(out, first_q, exact.out, "attention");
      compare(grad_q, first_q, exact.grad_q, "gradient of q");
      compare(grad_k, first_k, exact.grad_k, "gradient of k");
      compare(grad_v, first_k, exact.grad_v, "gradient of v");
    }
}

template <class T>
void check_attention_shapes(const KernelTable& table) {
  // Empty, one token, below and beyond a tile's rows; beyond its block of keys; other lengths of keys; beyond its block
  // of queries, in groups of rows and a rest.
  const Packed own{{0, 0, 1, 8, 57}, {0, 0, 1, 8, 57}, 57, 57};
  const Packed longer{{0, 3, 3, 5}, {0, 131, 133, 133}, 7, 134};
  const Packed shorter{{0, 50, 54}, {0, 2, 19}, 54, 19};
  const Packed blocks{{0, 137}, {0, 137}, 137, 137};
  for (const bool causal : {false, true})
    for (const double dropout : {0.0, 0.3})
      for (const Packed* packed : {&own, &longer, &shorter}) check_attention<T>(table, *packed, 24, causal, dropout);
  check_attention<T>(table, own, 64, true, 0.3);
  check_attention<T>(table, own, 128, false, 0.0);
  check_attention<T>(table, blocks, 16, true, 0.3);
  check_attention<T>(table, blocks, 16, false, 0.0);
}

// The word of hidden states, written out from the same.
uint32_t hidden_word(uint64_t seed, int64_t row, int64_t column) {
  return philox_word(seed,
                     {static_cast<uint32_t>(16 * (column / 64) + column % 16), static_cast<uint32_t>(row),
                      static_cast<uint32_t>(row >> 32), 1},
                     column % 64 / 16);
}

// With a branch of type T beside a residual of type R, and without: then dropout falls on the result.
template <class R, class T>
void check_layer_norm(const KernelTable& table, int64_t n, bool with_branch, bool dropped, bool stream) {
  const int64_t rows = kNormBlock + 3;  // two blocks of weight gradients
  const double eps = 2 * kEps[kType<R> > kType<T> ? kType<R> : kType<T>], loose = 2 * kEps[kType<T>];
  constexpr float kNormEps = 0.5f;  // large: rows of one column are divided by it
  const Dropout dropout{dropped ? 0x40000000u : 0u, 4.0f / 3.0f, 0x123456789abcdef0u, nullptr};
  Matrix<R> residual(rows, n, n + 3), x(rows, n, n), grad_x(rows, n, n + 1), grad_residual(rows, n, n);
  Matrix<R> weight(1, n, n), bias(1, n, n), grad_weight(1, n, n), grad_bias(1, n, n);
  Matrix<T> branch(rows, n, n + 2), y(rows, n, n), grad_y(rows, n, n + 5), grad_branch(rows, n, n);
  Matrix<float> mean(1, rows, rows), rstd(1, rows, rows), sums(2 * norm_blocks(rows), n, n);
  for (int64_t i = 0; i < n; ++i) {
    set(weight.data[i], static_cast<int>(i * 5 % 16) + 1), set(bias.data[i], static_cast<int>(i * 3 % 16) - 8);
    for (int64_t r = 0; r < rows; ++r) {
      set(residual.row(r)[i], static_cast<int>((r * 31 + i * 17) % 64) - 20);
      set(branch.row(r)[i], static_cast<int>((r * 7 + i * 29) % 32) - 16);
      set(grad_y.row(r)[i], static_cast<int>((r * 11 + i * 13) % 16) - 8);
      set(grad_x.row(r)[i], static_cast<int>((r * 3 + i * 19) % 8) - 4);
    }
  }
  LayerNormForward forward{};
  forward.rows = rows, forward.cols = n, forward.eps = kNormEps, forward.dropout = dropout;
  forward.residual = residual.data, forward.residual_rows = layout_of(rows, residual.stride);
  forward.branch = with_branch ? branch.data : nullptr, forward.branch_rows = layout_of(rows, branch.stride);
  forward.weight = weight.data, forward.bias = bias.data;
  forward.x = x.data, forward.y = y.data, forward.mean = mean.data, forward.rstd = rstd.data;
  forward.stream_x = forward.stream_y = stream;
  for_rows(deal, table.layer_norm_forward[kType<R>][kType<T>], forward);

  LayerNormBackward backward{};
  backward.rows = rows, backward.cols = n, backward.dropout = dropout;
  backward.grad_y = grad_y.data, backward.grad_y_rows = layout_of(rows, grad_y.stride);
  backward.grad_x = with_branch ? grad_x.data : nullptr, backward.grad_x_rows = layout_of(rows, grad_x.stride);
  backward.x = with_branch ? x.data : residual.data;
  backward.x_rows = layout_of(rows, with_branch ? x.stride : residual.stride);
  backward.weight = weight.data, backward.mean = mean.data, backward.rstd = rstd.data;
  backward.grad_residual = grad_residual.data, backward.grad_branch = with_branch ? grad_branch.data : nullptr;
  backward.sums = sums.data, backward.stream_residual = backward.stream_branch = stream;
  const int64_t blocks = norm_blocks(rows);
  for_units(deal, table.layer_norm_backward[kType<R>][kType<T>], backward, blocks, kNormBlock * n);
  const LayerNormSums totals{blocks, n, sums.data, grad_weight.data, grad_bias.data};
  for_units(deal, table.layer_norm_sums[kType<R>], totals, n, 1);

  std::vector<double> want_weight(n), want_bias(n), size_weight(n), size_bias(n);
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<double> value(n), keep(n), normal(n), g(n);
    double sum = 0.0, squares = 0.0, g_sum = 0.0, along = 0.0;
    for (int64_t i = 0; i < n; ++i) {
      keep[i] = !dropped ? 1.0 : hidden_word(dropout.seed, r, i) >= dropout.threshold ? dropout.keep_scale : 0.0;
      const double exact = to_float(residual.row(r)[i]) + (with_branch ? keep[i] * to_float(branch.row(r)[i]) : 0.0);
      value[i] = with_branch ? to_float(x.row(r)[i]) : exact;
      require(std::fabs(value[i] - exact) <= eps * (std::fabs(exact) + 1), table.isa, "sum", value[i] - exact);
      sum += value[i];
    }
    for (int64_t i = 0; i < n; ++i) squares += (value[i] - sum / n) * (value[i] - sum / n);
    const double scale = 1 / std::sqrt(squares / n + kNormEps);
    for (int64_t i = 0; i < n; ++i) {
      const double on_result = with_branch ? 1.0 : keep[i], grad = on_result * to_float(grad_y.row(r)[i]);
      normal[i] = (value[i] - sum / n) * scale;
      const double want = on_result * (normal[i] * to_float(weight.data[i]) + to_float(bias.data[i]));
      const double error = std::fabs(to_float(y.row(r)[i]) - want);
      require(error <= loose * (std::fabs(want) + 1) + 1e-5, table.isa, "layer norm", error);
      g[i] = grad * to_float(weight.data[i]);
      g_sum += g[i], along += g[i] * normal[i];
      want_weight[i] += grad * normal[i], want_bias[i] += grad;
      size_weight[i] += std::fabs(grad * normal[i]), size_bias[i] += std::fabs(grad);
    }
    for (int64_t i = 0; i < n; ++i) {
      const double plus = with_branch ? to_float(grad_x.row(r)[i]) : 0.0;
      const double want = plus + scale * (g[i] - g_sum / n - normal[i] * along / n);
      const double error = std::fabs(to_float(grad_residual.row(r)[i]) - want);
      require(error <= 2 * kEps[kType<R>] * (std::fabs(want) + 1) + 1e-5, table.isa, "residual's gradient", error);
      if (!with_branch) continue;
      const double branch_error = std::fabs(to_float(grad_branch.row(r)[i]) - keep[i] * want);
      require(branch_error <= loose * (std::fabs(want) + 1) + 1e-5, table.isa, "branch's gradient", branch_error);
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    const double weight_error = std::fabs(to_float(grad_weight.data[i]) - want_weight[i]);
    require(weight_error <= (kEps[kType<R>] + 1e-5) * (size_weight[i] + 1), table.isa, "weight's gradient",
            weight_error);
    const double bias_error = std::fabs(to_float(grad_bias.data[i]) - want_bias[i]);
    require(bias_error <= (kEps[kType<R>] + 1e-5) * (size_bias[i] + 1), table.isa, "bias's gradient", bias_error);
  }
}

template <class R, class T>
void check_layer_norms(const KernelTable& table) {
  for (const int64_t n : {1, 3, 15, 16, 17, 63, 64, 65, 130}) {
    for (const int flags : {0, 1, 2, 3, 4, 5, 6, 7}) check_layer_norm<R, T>(table, n, flags & 1, flags & 2, flags & 4);
  }
}

// The gradient of one logit of a row without ignored or impossible targets, given its log-sum-exp.
double logit_slope(double logit, double lse, bool is_target, double smoothing, int64_t n) {
  return std::exp(logit - lse) - smoothing / static_cast<double>(n) - (is_target ? 1 - smoothing : 0.0);
}

// In place, so the logits are kept beside it. Ties, whose first is the argmax; maxima that grow from chunk to chunk.
template <class T>
void check_logits_chunk(const KernelTable& table, int64_t n, bool biased, bool with_gradient) {
  constexpr int64_t kRows = 6;
  constexpr double kSmoothing = 0.1;
  Matrix<T> x(kRows, n, n), kept(kRows, n, n), bias(1, n, n);
  const std::vector<int64_t> targets = {0, n - 1, -100, n, INT64_MIN, n / 2};
  std::vector<float> loss(kRows), g(kRows, 2.0f);
  const std::unique_ptr<bool[]> correct(new bool[kRows]);
  for (int64_t i = 0; i < n; ++i) set(bias.data[i], static_cast<int>(i % 5) - 2);
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 0; i < n; ++i)
      set(x.row(r)[i], r == 5 ? 8 : static_cast<int>((r * 13 + i * 29) % 96 + 8 * (i / kChunk)) - 40);
  for (int64_t i = 0; i < kRows * n; ++i) kept.data[i] = x.data[i];
  const auto logit = [&](int64_t r, int64_t i) {
    return to_float(kept.row(r)[i]) + (biased ? to_float(bias.data[i]) : 0.0f);
  };
  LogitsChunk params{};
  params.rows = kRows, params.cols = n, params.logits = x.data, params.row_stride = n;
  params.bias = biased ? bias.data : nullptr;
  params.targets = {targets.data(), 1, -100}, params.label_smoothing = kSmoothing;
  params.want_gradient = with_gradient, params.grad_row_loss = g.data();
  params.row_loss = loss.data(), params.row_correct = correct.get();
  for_rows(deal, table.logits_chunk[kType<T>], params);

  for (int64_t r = 0; r < kRows; ++r) {
    const int64_t target = targets[r];
    const bool scored = target >= 0 && target < n;
    double sum = 0.0, total = 0.0;
    int64_t largest = 0;
    for (int64_t i = 0; i < n; ++i) {
      sum += std::exp(logit(r, i)), total += logit(r, i);
      if (logit(r, i) > logit(r, largest)) largest = i;
    }
    require(correct[r] == (scored && largest == target), table.isa, "whether the head was right", r);
    const double lse = std::log(sum), mean = total / static_cast<double>(n);
    if (scored) {
      const double want = lse - (1 - kSmoothing) * logit(r, target) - kSmoothing * mean;
      require(std::fabs(loss[r] - want) <= 2e-5, table.isa, "loss of the head", loss[r] - want);
    } else {
      require(target == -100 ? loss[r] == 0.0f : std::isnan(loss[r]), table.isa, "loss of an unscored row", loss[r]);
    }
    for (int64_t i = 0; i < n; ++i) {
      const float got = to_float(x.row(r)[i]);
      if (!with_gradient) {
        require(got == to_float(kept.row(r)[i]), table.isa, "logits that were to be left alone", i);
      } else if (!scored) {
        require(target == -100 ? got == 0.0f : std::isnan(got), table.isa, "gradient of an unscored row", i);
      } else {
        const double slope = 2 * logit_slope(logit(r, i), lse, i == target, kSmoothing, n);
        require(std::fabs(got - slope) <= 2 * kEps[kType<T>] * std::fabs(slope) + 2e-5, table.isa,
                "gradient of the head", got - slope);
      }
    }
  }
}

template <class T>
void check_sums(const KernelTable& table, int64_t n) {
  constexpr int64_t kRows = 5;
  Matrix<T> x(kRows, n, n);
  Matrix<float> sum(kRows, n, n), columns(1, n, n);
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 0; i < n; ++i) set(x.row(r)[i], static_cast<int>((r * 7 + i * 5) % 32) - 16);
  for (int64_t i = 0; i < n; ++i) columns.data[i] = 1.0f;
  for (const bool stream : {false, true})
    for (const bool first : {true, false}) {
      const AddMatrix params{kRows, n, x.data, sum.data, first, first && stream};
      for_rows(deal, table.add_matrix[kType<T>], params);
    }
  const AddColumns params{kRows, n, x.data, n, columns.data, nullptr};
  for_units(deal, table.add_columns[kType<T>], params, n, kRows);
  for (int64_t i = 0; i < n; ++i) {
    float column = 1.0f;
    for (int64_t r = 0; r < kRows; ++r) {
      column += to_float(x.row(r)[i]);
      require(sum.row(r)[i] == 2 * to_float(x.row(r)[i]), table.isa, "sum of two matrices", i);
    }
    require(columns.data[i] == column, table.isa, "sum of a column", i);
  }
}

template <class From, class To>
void check_scale(const KernelTable& table, int64_t n, bool stream) {
  constexpr int64_t kRows = 5;
  Matrix<From> x(kRows, n, n);
  Matrix<To> out(kRows, n, n);
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 0; i < n; ++i) set(x.row(r)[i], static_cast<int>((r * 7 + i * 5) % 32) - 16);
  const float factor = -0.5f;
  const ScaleMatrix params{kRows, n, x.data, &factor, out.data, stream};
  for_rows(deal, table.scale_matrix[kType<From>][kType<To>], params);
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 0; i < n; ++i)
      require(to_float(out.row(r)[i]) == -0.5f * to_float(x.row(r)[i]), table.isa, "scaled matrix", i);
}

// Three tensors, one of them empty, each in blocks of exactly its size.
struct Parameters {
  std::vector<int64_t> sizes, first_chunk{0};
  std::vector<Matrix<float>> params, grads, exp_avgs, exp_avg_sqs;
  explicit Parameters(int64_t n) : sizes{n, 0, 5} {
    for (const int64_t size : sizes) {
      first_chunk.push_back(first_chunk.back() + (size + kTensorChunk - 1) / kTensorChunk);
      for (auto* list : {&params, &grads, &exp_avgs, &exp_avg_sqs}) list->emplace_back(1, size, size);
      for (int64_t i = 0; i < size; ++i) {
        set(params.back().data[i], static_cast<int>(i * 5 % 32) - 16);
        set(grads.back().data[i], static_cast<int>(i * 7 % 64) - 30);
        set(exp_avgs.back().data[i], static_cast<int>(i % 16) - 8);
        set(exp_avg_sqs.back().data[i], static_cast<int>(i % 8));
      }
    }
  }
  TensorList list() const { return {static_cast<int64_t>(sizes.size()), sizes.data(), first_chunk.data()}; }
};

void check_adam(const KernelTable& table, int64_t n) {
  Parameters after(n), before(n);
  std::vector<AdamTensor> tensors;
  for (size_t t = 0; t < after.sizes.size(); ++t)
    tensors.push_back({after.params[t].data, after.grads[t].data, after.exp_avgs[t].data, after.exp_avg_sqs[t].data,
                       0.5f + static_cast<float>(t), 2.0f + static_cast<float>(t)});
  const Adam update{after.list(), tensors.data(), 0.75f, 0.25f, 0.875f, 0.125f, 0.625f, 0.375f, 0.5f};
  for_units(backwards_in_pieces, table.adam, update, after.first_chunk.back(), kTensorChunk);
  for (size_t t = 0; t < tensors.size(); ++t)
    for (int64_t i = 0; i < after.sizes[t]; ++i) {
      const double p = before.params[t].data[i], g = 0.75 * before.grads[t].data[i] + 0.25 * p;
      const double m = before.exp_avgs[t].data[i] + 0.125 * (g - before.exp_avgs[t].data[i]);
      const double v = 0.625 * before.exp_avg_sqs[t].data[i] + 0.375 * g * g;
      const double want = 0.875 * p - tensors[t].rate * m / (tensors[t].root_factor * std::sqrt(v) + 0.5);
      require(std::fabs(after.exp_avgs[t].data[i] - m) <= 1e-6, table.isa, "mean of gradients", i);
      require(std::fabs(after.exp_avg_sqs[t].data[i] - v) <= 1e-5, table.isa, "mean of squared gradients", i);
      require(std::fabs(after.params[t].data[i] - want) <= 1e-6, table.isa, "Adam's step", i);
      require(after.grads[t].data[i] == before.grads[t].data[i], table.isa, "a gradient that was written", i);
    }
}

void check_squares(const KernelTable& table, int64_t n) {
  const Parameters x(n);
  std::vector<const float*> tensors;
  for (const auto& grad : x.grads) tensors.push_back(grad.data);
  const int64_t chunks = x.first_chunk.back();
  const std::unique_ptr<double[]> sums(new double[chunks]);
  for_units(backwards_in_pieces, table.squares, Squares{x.list(), tensors.data(), sums.get()}, chunks, kTensorChunk);
  for (size_t t = 0; t < tensors.size(); ++t)
    for (int64_t k = x.first_chunk[t]; k < x.first_chunk[t + 1]; ++k) {
      double want = 0.0;
      for (int64_t i = (k - x.first_chunk[t]) * kTensorChunk;
           i < x.sizes[t] && i < (k - x.first_chunk[t] + 1) * kTensorChunk; ++i)
        want += static_cast<double>(tensors[t][i]) * tensors[t][i];
      require(std::fabs(sums[k] - want) <= 1e-6 * want, table.isa, "sum of squares", k);
    }
}

template <class T>
void check_type(const KernelTable& table) {
  check_attention_shapes<T>(table);
  // Below, at and beyond one vector of each width, one unrolled pass, one chunk, several chunks.
  for (const int64_t n : {1, 3, 4, 5, 8, 15, 16, 17, 33, 63, 64, 65, 257, 2047, 2048, 2049, 4500}) {
    for (const bool stream : {false, true}) {
      for (const bool aligned : {false, true}) {
        for (const Masked masked : {Masked::kNothing, Masked::kColumns, Masked::kRows})
          for (const float scale : {1.0f, -0.5f}) check_softmax<T>(table, n, masked, scale, stream, aligned);
      }
      check_cross_entropy<T>(table, n, stream);
      check_scale<T, float>(table, n, stream);
      check_scale<T, BFloat16>(table, n, stream);
      check_scale<T, Half>(table, n, stream);
    }
    for (const bool biased : {false, true})
      for (const bool with_gradient : {false, true}) check_logits_chunk<T>(table, n, biased, with_gradient);
    check_sums<T>(table, n);
  }
}

// Largest error of the exponential over its domain: in units in the last place, and relative.
struct ExpError {
  double ulps = 0.0, relative = 0.0;
};
template <class Exact>
ExpError exp_error(void (*exp)(const float*, float*, int64_t), double from, double to, Exact exact_of) {
  ExpError worst;
  std::vector<float> x(4096), y(4096);
  for (int64_t start = 0; start < 1 << 19; start += 4096) {
    for (int64_t i = 0; i < 4096; ++i)
      x[i] = static_cast<float>(from + (to - from) * static_cast<double>(start + i) / (1 << 19));
    exp(x.data(), y.data(), 4096);
    for (int64_t i = 0; i < 4096; ++i) {
      const double exact = exact_of(static_cast<double>(x[i]));
      const float rounded = static_cast<float>(exact);
      const double ulp = static_cast<double>(std::nextafterf(rounded, INFINITY)) - rounded;
      worst.ulps = std::fmax(worst.ulps, std::fabs(y[i] - exact) / ulp);
      worst.relative = std::fmax(worst.relative, std::fabs(y[i] - exact) / exact);
    }
  }
  return worst;
}

void check_exp(const KernelTable& table) {
  const float special[] = {0.0f, -0.0f, -INFINITY, NAN, -1e30f, -87.5f};
  for (int type = 0; type < kDTypes; ++type) {
    float y[6];
    table.exp[type](special, y, 6);
    require(y[0] == 1.0f && y[1] == 1.0f, table.isa, "exp(0)", y[0]);
    require(y[2] == 0.0f && y[4] == 0.0f && y[5] == 0.0f, table.isa, "exp far below zero", y[5]);
    require(std::isnan(y[3]), table.isa, "exp(NaN)", y[3]);
  }
  const auto exact = [](double x) { return std::exp(x); };
  const ExpError wide = exp_error(table.exp[0], -87.33, 87.97, exact);
  const ExpError narrow = exp_error(table.exp[1], -87.33, 87.97, exact);
  std::printf("%s: exp max error %.3f ulp for float, %.2e relative for 16-bit types\n", table.isa, wide.ulps,
              narrow.relative);
  require(wide.ulps <= 2.5, table.isa, "exp for float, ulp", wide.ulps);
  require(narrow.relative <= 4e-6, table.isa, "exp for 16-bit types, relative", narrow.relative);
}

void check_exp2(const KernelTable& table) {
  const float special[] = {0.0f,   -0.0f,   -1.0f, -126.0f,  127.0f, -INFINITY,
                           -1e30f, -150.0f, NAN,   INFINITY, 128.0f, 1e30f};
  for (int type = 0; type < kDTypes; ++type) {
    float y[12];
    table.exp2[type](special, y, 12);
    for (int i = 0; i < 5; ++i) require(y[i] == std::exp2(special[i]), table.isa, "exp2 of a whole number", special[i]);
    for (int i = 5; i < 8; ++i) require(y[i] == 0.0f, table.isa, "exp2 far below zero", special[i]);
    require(std::isnan(y[8]), table.isa, "exp2(NaN)", y[8]);
    for (int i = 9; i < 12; ++i) require(!std::isfinite(y[i]), table.isa, "exp2 out of range", special[i]);
  }
  const auto exact = [](double t) { return std::exp2(t); };
  const ExpError wide = exp_error(table.exp2[0], -126.0, 127.99, exact);
  const ExpError narrow = exp_error(table.exp2[1], -126.0, 127.99, exact);
  std::printf("%s: exp2 max error %.3f ulp for float, %.2e relative for 16-bit types\n", table.isa, wide.ulps,
              narrow.relative);
  require(wide.ulps <= 2.5, table.isa, "exp2 for float, ulp", wide.ulps);
  require(narrow.relative <= 4e-6, table.isa, "exp2 for 16-bit types, relative", narrow.relative);
}

// Every 16-bit pattern through a load and a store: with y = (1, 1) and grad_y = (v, -v) the dot product vanishes and
// the gradient of a softmax is v itself.
template <class T>
void check_conversions(const KernelTable& table) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    T g[2], y[2], out[2];
    g[0].bits = static_cast<uint16_t>(bits);
    g[1].bits = static_cast<uint16_t>(bits ^ 0x8000);
    set(y[0], 8), set(y[1], 8);
    SoftmaxBackward params{};
    params.rows = 1, params.cols = 2, params.grad_y = g, params.y = y, params.scale = 1.0f, params.grad_x = out;
    for_rows(deal, table.softmax_backward[kType<T>], params);
    const float value = to_float(g[0]);
    if (!std::isfinite(value)) {
      require(std::isnan(to_float(out[0])), table.isa, "a conversion of infinity or NaN", bits);
    } else if (kType<T> == 2 || std::fabs(value) >= 1.2e-38f) {  // bfloat16 denormals may be flushed
      require(out[0].bits == g[0].bits || value == 0.0f, table.isa, "a conversion", bits);
    }
  }
}

// Nothing to deal to threads.
void check_single_values(const KernelTable& table) {
  check_exp(table);
  check_exp2(table);
  check_conversions<BFloat16>(table);
  check_conversions<Half>(table);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view wanted = argc > 1 ? argv[1] : "pieces";
  const auto* const found =
      std::find_if(std::begin(kDeals), std::end(kDeals), [&](const Deal& d) { return d.name == wanted; });
  if (found == std::end(kDeals)) {
    std::printf("unknown deal: %s\n", argv[1]);
    return 2;
  }
  deal = found->parallel_for;
  for (const Isa* isa = begin_isas(); isa != end_isas(); ++isa) {
    if (!isa->supported()) {
      std::printf("%s: not supported by this machine\n", isa->table->isa);
      continue;
    }
    if (deal == backwards_in_pieces) check_single_values(*isa->table);
    check_type<float>(*isa->table);
    check_type<BFloat16>(*isa->table);
    check_type<Half>(*isa->table);
    for (const int64_t n : {1, 3, 4, 5, 8, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 9000}) {
      check_adam(*isa->table, n);
      check_squares(*isa->table, n);
    }
    check_layer_norms<float, float>(*isa->table);
    check_layer_norms<float, BFloat16>(*isa->table);
    check_layer_norms<float, Half>(*isa->table);
    check_layer_norms<BFloat16, BFloat16>(*isa->table);
    check_layer_norms<Half, Half>(*isa->table);
    std::printf("%s: passed\n", isa->table->isa);
  }
  return 0;
}
