// fastlm._host: the host's hot loops over numpy arrays. No torch here; the GIL is released while they run.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cpu/host/masking.h"
#include "kernels/cpu/host/repeats.h"
#include "kernels/cpu/host/shuffle.h"

namespace py = pybind11;

namespace {

// Inputs come contiguous and of the right dtype or not at all: a silent copy would hide a slow caller.
template <typename T>
using Array = py::array_t<T, py::array::c_style>;

void require(bool condition, const std::string& message) {
  if (!condition) throw py::value_error(message);
}

py::array_t<int64_t> to_array(const std::vector<int64_t>& values) {
  return py::array_t<int64_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::tuple mask_tokens(const Array<int64_t>& tokens, const Array<int64_t>& cu_seqlens, const Array<int64_t>& sentences,
                      const Array<int64_t>& starts, uint64_t seed, uint32_t epoch, int unit, uint64_t rate,
                      uint64_t keep, uint64_t keep_or_random, int64_t special_count, int64_t vocab_size,
                      int64_t mask_id, const Array<bool>& word_starts, const Array<uint32_t>& span_ends) {
  const py::ssize_t count = sentences.size();
  require(cu_seqlens.size() == count + 1 && starts.size() == count, "cu_seqlens needs one entry more than sentences");
  require(special_count >= 0 && special_count < vocab_size, "special_count must be below vocab_size");
  require(unit != 1 || word_starts.size() == vocab_size, "word_starts needs one entry per vocabulary entry");
  const int64_t* bounds = cu_seqlens.data();
  require(bounds[0] == 0 && bounds[count] == tokens.size(), "cu_seqlens must run from 0 to the number of tokens");
  for (py::ssize_t b = 0; b < count; ++b) require(bounds[b] <= bounds[b + 1], "cu_seqlens must not descend");
  for (py::ssize_t t = 0; t < tokens.size(); ++t) {
    require(tokens.data()[t] >= 0 && tokens.data()[t] < vocab_size, "a token is outside the vocabulary");
  }

  py::array_t<int64_t> inputs(tokens.size());
  std::copy(tokens.data(), tokens.data() + tokens.size(), inputs.mutable_data());
  int64_t* out = inputs.mutable_data();
  const int64_t* ids = sentences.data();
  const int64_t* begins = starts.data();
  const fastlm::host::MaskPolicy policy{seed,
                                        epoch,
                                        static_cast<fastlm::host::MaskUnit>(unit),
                                        rate,
                                        keep,
                                        keep_or_random,
                                        special_count,
                                        vocab_size,
                                        mask_id,
                                        word_starts.data(),
                                        span_ends.data(),
                                        static_cast<int>(span_ends.size()) + 1};
  std::vector<int64_t> rows, targets;
  {
    py::gil_scoped_release release;
    fastlm::host::Masker masker(policy);
    for (py::ssize_t b = 0; b < count; ++b) {
      masker.mask(out + bounds[b], bounds[b + 1] - bounds[b], static_cast<uint64_t>(ids[b]),
                  static_cast<uint32_t>(begins[b]), bounds[b], rows, targets);
    }
  }
  return py::make_tuple(inputs, to_array(rows), to_array(targets));
}

py::array_t<int64_t> first_occurrences(const Array<uint64_t>& hashes) {
  require(hashes.ndim() == 2 && hashes.shape(1) == 2, "hashes must be (N, 2)");
  py::array_t<int64_t> first(hashes.shape(0));
  const uint64_t* in = hashes.data();
  int64_t* out = first.mutable_data();
  const int64_t n = hashes.shape(0);
  py::gil_scoped_release release;
  fastlm::host::first_occurrences(in, n, out);
  return first;
}

py::array_t<int64_t> components(int64_t vertices, const Array<int64_t>& left, const Array<int64_t>& right) {
  require(left.size() == right.size(), "left and right must have one length");
  const int64_t* a = left.data();
  const int64_t* b = right.data();
  const int64_t edges = left.size();
  for (int64_t e = 0; e < edges; ++e) {
    require(a[e] >= 0 && a[e] < vertices && b[e] >= 0 && b[e] < vertices, "an edge names a vertex that is not there");
  }
  py::array_t<int64_t> root(vertices);
  int64_t* out = root.mutable_data();
  py::gil_scoped_release release;
  fastlm::host::components(vertices, a, b, edges, out);
  return root;
}

py::array_t<int64_t> shuffled(uint64_t seed, uint32_t epoch, int64_t n) {
  require(n >= 0, "n must not be negative");
  py::array_t<int64_t> order(n);
  int64_t* out = order.mutable_data();
  py::gil_scoped_release release;
  fastlm::host::shuffled(seed, epoch, n, out);
  return order;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "Host-side hot loops of fastlm.data; each has its numpy specification there.";
  m.def("mask_tokens", &mask_tokens, py::arg("tokens").noconvert(), py::arg("cu_seqlens").noconvert(),
        py::arg("sentences").noconvert(), py::arg("starts").noconvert(), py::kw_only(), py::arg("seed"),
        py::arg("epoch"), py::arg("unit"), py::arg("rate"), py::arg("keep"), py::arg("keep_or_random"),
        py::arg("special_count"), py::arg("vocab_size"), py::arg("mask_id"), py::arg("word_starts").noconvert(),
        py::arg("span_ends").noconvert());
  m.def("first_occurrences", &first_occurrences, py::arg("hashes").noconvert());
  m.def("components", &components, py::arg("vertices"), py::arg("left").noconvert(), py::arg("right").noconvert());
  m.def("shuffled", &shuffled, py::arg("seed"), py::arg("epoch"), py::arg("n"));
}
