// The custom calls of xla/calls.hpp for Python to register with XLA.
#include <pybind11/native_enum.h>
#include <pybind11/pybind11.h>

#include "xla/calls.hpp"

namespace py = pybind11;
using namespace py::literals;

PYBIND11_MODULE(_layers, m) {
    m.doc() = "Custom calls of XLA on CPU: see kidseg_jax/network/native.py.";
    py::native_enum<kidseg::Isa>(m, "InstructionSet", "enum.Enum", "Worst first; best takes what the machine has.")
        .value("baseline", kidseg::Isa::baseline)
        .value("avx2", kidseg::Isa::avx2)
        .value("avx512", kidseg::Isa::avx512)
        .value("best", kidseg::Isa::best)
        .finalize();
    m.def("targets", [] {
        py::dict targets;
        for (const auto& [name, run] : kidseg::calls::targets)
            targets[name] = py::capsule(reinterpret_cast<void*>(run), "xla._CUSTOM_CALL_TARGET");
        return targets;
    });
    m.def("set_threads", [](int threads) { kidseg::xla::thread_limit = threads; }, "threads"_a);
    m.def("set_instruction_set", [](kidseg::Isa isa) { kidseg::calls::instruction_set = isa; }, "isa"_a);
}
