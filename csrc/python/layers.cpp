// The custom calls of xla/calls.hpp for Python to register with XLA.
#include <pybind11/pybind11.h>

#include "xla/calls.hpp"

namespace py = pybind11;
using namespace py::literals;

PYBIND11_MODULE(_layers, m) {
    m.doc() = "Custom calls of XLA on CPU: see kidseg_jax/network/conv3d.py.";
    m.def("targets", [] {
        py::dict targets;
        for (const auto& [name, run] : kidseg::calls::targets)
            targets[name] = py::capsule(reinterpret_cast<void*>(run), "xla._CUSTOM_CALL_TARGET");
        return targets;
    });
    m.def("set_threads", [](int threads) { kidseg::xla::thread_limit = threads; }, "threads"_a);
    m.def("set_instruction_set", [](int isa) { kidseg::calls::instruction_set = isa; }, "isa"_a);
}
