// LayerNorm closing a residual sum: x = residual + dropout(branch), y = norm(x), each way in one pass over memory where
// a team can hold a row.
#pragma once

#include "kernels/cuda/common/philox.cuh"
#include "kernels/cuda/common/row.cuh"
#include "kernels/cuda/layer_norm.h"

namespace fastlm::cuda {

// ---- a thread's share of a row -------------------------------------------------------------------------------------
// Sixteen elements in four quads, 16 columns apart, from column i: those that four counters of the dropout decide, so
// that no drawn word is thrown away or sent to another lane. Four neighbouring threads have 64 neighbouring columns.
inline constexpr int kQuads = 4;
inline constexpr int kUnit = 4 * kQuads;
struct Unit {
  float x[kUnit] = {};

  // The column of element e, counted from the unit's first.
  FASTLM_DEVICE static int column(int e) { return e / 4 * 16 + e % 4; }
};

// Whether all of a unit's quads are in the row, each in one access: one question, so that their loads leave together.
template <class T>
FASTLM_DEVICE bool in_quads(Global<T> row, int i, int n) {
  return i + Unit::column(kUnit - 1) < n && address(row + i) % (4 * sizeof(T)) == 0;
}

// Elements behind the row are 0.
template <class T>
FASTLM_DEVICE Unit read_unit(Global<T> row, int i, int n) {
  Unit unit;
  if (in_quads(row, i, n)) {
    Vector<std::remove_const_t<T>, 4> quads[kQuads];
    FASTLM_UNROLL
    for (int q = 0; q < kQuads; ++q) quads[q] = load_vector<4>(row + (i + Unit::column(4 * q)));
    FASTLM_UNROLL
    for (int e = 0; e < kUnit; ++e) unit.x[e] = to_float(quads[e / 4][e % 4]);
    return unit;
  }
  FASTLM_UNROLL
  for (int e = 0; e < kUnit; ++e)
    if (i + Unit::column(e) < n) unit.x[e] = to_float(load(row + (i + Unit::column(e))));
  return unit;
}
template <class T>
FASTLM_DEVICE void write_unit(Global<T> row, int i, int n, const Unit& unit) {
  if (in_quads(row, i, n)) {
    FASTLM_UNROLL
    for (int q = 0; q < kQuads; ++q) {
      Vector<T, 4> quad;
      FASTLM_UNROLL
      for (int e = 0; e < 4; ++e) quad.set(e, from_float<T>(unit.x[4 * q + e]));
      store_vector(row + (i + Unit::column(4 * q)), quad);
    }
    return;
  }
  FASTLM_UNROLL
  for (int e = 0; e < kUnit; ++e)
    if (i + Unit::column(e) < n) store(row + (i + Unit::column(e)), from_float<T>(unit.x[e]));
}

// How a team shares out a row of n columns. One that holds the row has one unit a thread; any other has several, and
// reads them again in every pass.
template <class Team, bool kHeld>
struct UnitShare {
  int n;

  FASTLM_DEVICE explicit UnitShare(int64_t columns) : n(static_cast<int>(columns)) {}

  // body(i): a unit of this thread begins at column i.
  template <class Body>
  FASTLM_DEVICE void each(Body body) const {
    const int first = Team::rank() / 4 * 64 + Team::rank() % 4 * 4;
    if constexpr (kHeld) {
      if (first < n) body(first);
    } else {
      for (int i = first; i < n; i += Team::kSize * kUnit) body(i);
    }
  }
};

// The team of a row of so many columns; calls choice(team, held).
template <class Choice>
void choose_unit_team(int64_t columns, Choice choice) {
  if (columns <= 32 * kUnit) return choice(Warp{}, std::true_type{});
  if (columns <= 64 * kUnit) return choice(Block<64>{}, std::true_type{});
  if (columns <= 128 * kUnit) return choice(Block<128>{}, std::true_type{});
  if (columns <= 256 * kUnit) return choice(Block<256>{}, std::true_type{});
  choice(Block<512>{}, std::false_type{});
}

// The dropout of one row of hidden states.
struct RowDropout {
  const Dropout& dropout;
  int64_t row;

  FASTLM_DEVICE void operator()(int i, Unit& unit) const {
    if (dropout.threshold == 0) return;
    FASTLM_UNROLL
    for (int e = 0; e < 4; ++e) {
      const PhiloxWords drawn = column_words(seed_of(dropout), row, i + e);
      FASTLM_UNROLL
      for (int q = 0; q < kQuads; ++q) {
        float& x = unit.x[4 * q + e];
        x = drawn.words[q] >= dropout.threshold ? x * dropout.keep_scale : 0.0f;
      }
    }
  }
};

// ---- forward -------------------------------------------------------------------------------------------------------
template <class R, class T, class RowTeam, bool kHeld>
struct LayerNormForwardKernel {
  using Team = RowTeam;
  static constexpr int kThreads = Team::kThreads;

  FASTLM_DEVICE static void run(const LayerNormForward& p) {
    const int64_t row = block_x() * Team::kRows + Team::row();
    if (row >= p.rows) return;
    const UnitShare<Team, kHeld> share(p.cols);
    const int n = share.n;
    const RowDropout drop{p.dropout, row};
    const bool has_branch = p.branch != nullptr;
    const Global<const R> residual = Global<const R>(p.residual) + row_offset(p.residual_rows, row);
    const Global<T> y = Global<T>(p.y) + row * p.cols;

    Unit held;
    float sum = 0.0f;
    share.each([&](int i) {
      held = has_branch ? summed(p, residual, row, i, n) : read_unit(residual, i, n);
      FASTLM_UNROLL
      for (float x : held.x) sum += x;
    });
    const auto values = [&](int i) {
      if constexpr (kHeld) {
        return held;
      } else {
        return has_branch ? read_unit(Global<R>(p.x) + row * p.cols, i, n) : read_unit(residual, i, n);
      }
    };
    Team team;
    const float mean = team.reduce(sum, Add{}) / static_cast<float>(n);
    // Centred before squaring: a row may lie far from zero.
    float squares = 0.0f;
    share.each([&](int i) {
      const Unit x = values(i);
      FASTLM_UNROLL
      for (int e = 0; e < kUnit; ++e) {
        const float centred = i + Unit::column(e) < n ? x.x[e] - mean : 0.0f;
        squares = fused(centred, centred, squares);
      }
    });
    const float rstd = 1.0f / sqrt(team.reduce(squares, Add{}) / static_cast<float>(n) + p.eps);
    share.each([&](int i) {
      Unit out = values(i);
      const Unit weight = read_unit(Global<const R>(p.weight), i, n), bias = read_unit(Global<const R>(p.bias), i, n);
      FASTLM_UNROLL
      for (int e = 0; e < kUnit; ++e) out.x[e] = fused((out.x[e] - mean) * rstd, weight.x[e], bias.x[e]);
      if (!has_branch) drop(i, out);
      write_unit(y, i, n, out);
    });
    if (Team::rank() == 0) {
      store(Global<float>(p.mean) + row, mean);
      store(Global<float>(p.rstd) + row, rstd);
    }
  }

 private:
  // residual + dropout(branch), written to x and as it is read there.
  FASTLM_DEVICE static Unit summed(const LayerNormForward& p, Global<const R> residual, int64_t row, int i, int n) {
    Unit x = read_unit(residual, i, n);
    Unit branch = read_unit(Global<const T>(p.branch) + row_offset(p.branch_rows, row), i, n);
    RowDropout{p.dropout, row}(i, branch);
    FASTLM_UNROLL
    for (int e = 0; e < kUnit; ++e) x.x[e] = to_float(from_float<R>(x.x[e] + branch.x[e]));
    write_unit(Global<R>(p.x) + row * p.cols, i, n, x);
    return x;
  }
};

template <class R, class T>
void layer_norm_forward(const LayerNormForward& params, Stream stream) {
  choose_unit_team(params.cols, [&](auto team, auto held) {
    using Team = decltype(team);
    launch<LayerNormForwardKernel<R, T, Team, held>>(blocks_for<Team>(params.rows), 1, Team::kSharedBytes, stream,
                                                     params);
  });
}

// ---- backward ------------------------------------------------------------------------------------------------------
// A block's sums of grad_y * normalised (for weight) and of grad_y (for bias), over its rows: those of a held unit in
// registers, others where they are written in the end.
template <class Team, bool kHeld>
class ColumnSums {
 public:
  FASTLM_DEVICE ColumnSums(Global<float> sums, const UnitShare<Team, kHeld>& share) : sums_(sums), share_(share) {
    if constexpr (!kHeld) {
      share_.each([&](int i) {
        write_unit(sums_, i, share_.n, Unit{});
        write_unit(sums_ + share_.n, i, share_.n, Unit{});
      });
    }
  }

  FASTLM_DEVICE void add(int i, const Unit& weight, const Unit& bias) {
    if constexpr (!kHeld) {
      held_[0] = read_unit(sums_, i, share_.n);
      held_[1] = read_unit(sums_ + share_.n, i, share_.n);
    }
    FASTLM_UNROLL
    for (int e = 0; e < kUnit; ++e) {
      held_[0].x[e] += weight.x[e];
      held_[1].x[e] += bias.x[e];
    }
    if constexpr (!kHeld) write(sums_, i);
  }

  // The block's sums, when each team has added its own rows'.
  FASTLM_DEVICE void finish() {
    if constexpr (Team::kRows > 1) {
      const int n = share_.n;
      const Shared<float> shared = shared_memory<float>(0);
      share_.each([&](int i) {
        FASTLM_UNROLL
        for (int e = 0; e < kUnit; ++e) {
          const int column = i + Unit::column(e);
          if (column >= n) continue;
          store(shared + (Team::row() * 2 * n + column), held_[0].x[e]);
          store(shared + ((Team::row() * 2 + 1) * n + column), held_[1].x[e]);
        }
      });
      barrier();
      for (int column = thread_index(); column < 2 * n; column += Team::kThreads) {
        float sum = 0.0f;
        FASTLM_UNROLL
        for (int r = 0; r < Team::kRows; ++r) sum += load(shared + (r * 2 * n + column));
        store(sums_ + column, sum);
      }
    } else if constexpr (kHeld) {
      share_.each([&](int i) { write(sums_, i); });
    }
  }
  static int64_t shared_bytes(int64_t columns) {
    return Team::kRows > 1 ? Team::kRows * 2 * columns * static_cast<int64_t>(sizeof(float)) : Team::kSharedBytes;
  }

 private:
  FASTLM_DEVICE void write(Global<float> sums, int i) const {
    write_unit(sums, i, share_.n, held_[0]);
    write_unit(sums + share_.n, i, share_.n, held_[1]);
  }

  Global<float> sums_;
  UnitShare<Team, kHeld> share_;
  Unit held_[2];
};

template <class R, class T, class RowTeam, bool kHeld>
struct LayerNormBackwardKernel {
  using Team = RowTeam;
  using Sums = ColumnSums<Team, kHeld>;
  static constexpr int kThreads = Team::kThreads;

  FASTLM_DEVICE static void run(const LayerNormBackward& p) {
    const UnitShare<Team, kHeld> share(p.cols);
    Sums sums(Global<float>(p.sums) + block_x() * 2 * p.cols, share);
    const int64_t first = block_x() * kNormSlice;
    const int64_t last = first + kNormSlice < p.rows ? first + kNormSlice : p.rows;
    Team team;
    for (int64_t row = first + Team::row(); row < last; row += Team::kRows) one_row(p, row, share, team, sums);
    sums.finish();
  }

 private:
  struct Parts {
    Unit normalised, grad_y;  // what dropout has left of grad_y
  };

  FASTLM_DEVICE static void one_row(const LayerNormBackward& p, int64_t row, const UnitShare<Team, kHeld>& share,
                                    Team& team, Sums& sums) {
    const int n = share.n;
    const RowDropout drop{p.dropout, row};
    const bool has_branch = p.grad_branch != nullptr;
    const Global<const T> grad_y = Global<const T>(p.grad_y) + row_offset(p.grad_y_rows, row);
    const Global<const R> x = Global<const R>(p.x) + row_offset(p.x_rows, row);
    const Global<const R> weights = Global<const R>(p.weight);
    const float mean = load(Global<const float>(p.mean) + row), rstd = load(Global<const float>(p.rstd) + row);
    const auto read_parts = [&](int i) {
      Parts parts{read_unit(x, i, n), read_unit(grad_y, i, n)};
      FASTLM_UNROLL
      for (int e = 0; e < kUnit; ++e)
        parts.normalised.x[e] = i + Unit::column(e) < n ? (parts.normalised.x[e] - mean) * rstd : 0.0f;
      if (!has_branch) drop(i, parts.grad_y);
      return parts;
    };

    const auto read_grad_x = [&](int i) {
      return p.grad_x == nullptr ? Unit{} : read_unit(Global<const R>(p.grad_x) + row_offset(p.grad_x_rows, row), i, n);
    };

    Parts held;
    Unit held_grad_x;
    float g_sum = 0.0f, along_sum = 0.0f;  // with g = grad_y * weight
    share.each([&](int i) {
      held = read_parts(i);
      if constexpr (kHeld) held_grad_x = read_grad_x(i);  // on its way while the team sums
      const Unit weight = read_unit(weights, i, n);
      Unit weight_sum;
      FASTLM_UNROLL
      for (int e = 0; e < kUnit; ++e) {
        const float g = held.grad_y.x[e] * weight.x[e];
        g_sum += g;
        along_sum = fused(g, held.normalised.x[e], along_sum);
        weight_sum.x[e] = held.grad_y.x[e] * held.normalised.x[e];
      }
      sums.add(i, weight_sum, held.grad_y);
    });
    const float g_mean = team.reduce(g_sum, Add{}) / static_cast<float>(n);
    const float along_mean = team.reduce(along_sum, Add{}) / static_cast<float>(n);
    share.each([&](int i) {
      const Parts parts = kHeld ? held : read_parts(i);
      const Unit weight = read_unit(weights, i, n);
      Unit grad = kHeld ? held_grad_x : read_grad_x(i);
      FASTLM_UNROLL
      for (int e = 0; e < kUnit; ++e) {
        const float g = parts.grad_y.x[e] * weight.x[e];
        grad.x[e] = fused(g - g_mean - parts.normalised.x[e] * along_mean, rstd, grad.x[e]);
      }
      write_unit(Global<R>(p.grad_residual) + row * p.cols, i, n, grad);
      if (!has_branch) return;
      drop(i, grad);
      write_unit(Global<T>(p.grad_branch) + row * p.cols, i, n, grad);
    });
  }
};

template <class R, class T>
void layer_norm_backward(const LayerNormBackward& params, Stream stream) {
  choose_unit_team(params.cols, [&](auto team, auto held) {
    using Kernel = LayerNormBackwardKernel<R, T, decltype(team), held>;
    launch<Kernel>((params.rows + kNormSlice - 1) / kNormSlice, 1, Kernel::Sums::shared_bytes(params.cols), stream,
                   params);
  });
}

// ---- weight and bias -----------------------------------------------------------------------------------------------
// The slices' sums added for 32 columns: each warp adds every 32nd slice, then the first adds the warps'. One order,
// and loads enough at once to hide their latency.
template <class R>
struct LayerNormSumsKernel {
  static constexpr int kWarps = 32;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int64_t kSharedBytes = int64_t{kThreads} * 4;

  FASTLM_DEVICE static void run(const LayerNormSums& p) {
    const int64_t column = block_x() * 32 + lane_index(), part = block_y();
    const bool present = column < p.cols;
    const Global<const float> sums = Global<const float>(p.sums);
    float sum = 0.0f;
    if (present) {
      FASTLM_UNROLL_4
      for (int64_t slice = warp_index(); slice < p.blocks; slice += kWarps)
        sum += load(sums + ((2 * slice + part) * p.cols + column));
    }
    const Shared<float> shared = shared_memory<float>(0);
    store(shared + thread_index(), sum);
    barrier();
    if (warp_index() != 0 || !present) return;
    float total = 0.0f;
    FASTLM_UNROLL
    for (int warp = 0; warp < kWarps; ++warp) total += load(shared + (warp * 32 + lane_index()));
    store(Global<R>(part == 0 ? p.grad_weight : p.grad_bias) + column, from_float<R>(total));
  }
};

template <class R>
void layer_norm_sums(const LayerNormSums& params, Stream stream) {
  launch<LayerNormSumsKernel<R>>((params.cols + 31) / 32, 2, LayerNormSumsKernel<R>::kSharedBytes, stream, params);
}

}  // namespace fastlm::cuda
