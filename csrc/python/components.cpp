// Connected components and what is kept of them, for Python.
#include "python/arrays.hpp"
#include "python/bindings.hpp"
#include "components/cleanup.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace {

using kidseg::array_of;
using kidseg::by_width;
using kidseg::Components;
using kidseg::Grid;
using kidseg::Index;
using kidseg::input;
using kidseg::output_like;
using kidseg::RunsOf;

py::tuple stats_of(const kidseg::ComponentRuns& components) {
    std::vector<kidseg::ComponentStat> stats;
    {
        py::gil_scoped_release release;
        stats = components.stats();
    }
    const auto n = static_cast<py::ssize_t>(stats.size());
    py::array_t<std::int64_t> voxels(n), lo({n, py::ssize_t{3}}), hi({n, py::ssize_t{3}}), sum({n, py::ssize_t{3}});
    for (py::ssize_t i = 0; i < n; ++i) {
        const auto& s = stats[static_cast<std::size_t>(i)];
        voxels.mutable_at(i) = s.voxels;
        for (std::size_t a = 0; a < 3; ++a) {
            const auto axis = static_cast<py::ssize_t>(a);
            lo.mutable_at(i, axis) = s.box.lo[a];
            hi.mutable_at(i, axis) = s.box.hi[a];
            sum.mutable_at(i, axis) = s.sum[a];
        }
    }
    return py::make_tuple(voxels, lo, hi, sum);
}

void write_components(const kidseg::ComponentRuns& components, py::array out) {
    by_width(out, [&](auto zero) {
        using Out = decltype(zero);
        const Grid<Out> grid = output_like<Out>(out, components.given_shape());
        py::gil_scoped_release release;
        components.write(grid, [](kidseg::RunId i) { return static_cast<Out>(i + 1); });
    });
}

template <class T>
void bind(py::module_& m, const char* name) {
    py::class_<Components<T>, kidseg::ComponentRuns>(m, name).def("labels", [](const Components<T>& c) {
        std::vector<T> labels;
        {
            py::gil_scoped_release release;
            labels = c.source_labels();
        }
        return array_of(std::move(labels));
    });
}

py::object find_components(const py::array& labels, int connectivity, bool foreground, int threads) {
    return by_width(labels, [&](auto zero) -> py::object {
        using T = decltype(zero);
        const auto grid = input<T>(labels);
        std::unique_ptr<Components<T>> found;
        {
            py::gil_scoped_release release;
            found = std::make_unique<Components<T>>(grid, connectivity,
                                                    foreground ? RunsOf::foreground : RunsOf::each_label, threads);
        }
        return py::cast(std::move(found));
    });
}

void keep(const py::array& labels, py::array out, Index k, Index min_voxels, int connectivity, bool foreground,
          int threads) {
    by_width(labels, [&](auto zero) {
        using T = decltype(zero);
        const auto in = input<T>(labels);
        const auto to = output_like<T>(out, in.shape);
        py::gil_scoped_release release;
        const Components<T> components(in, connectivity, foreground ? RunsOf::foreground : RunsOf::each_label, threads);
        const auto kept = k > 0 ? kidseg::largest(components, k) : kidseg::at_least(components, min_voxels);
        components.copy_kept(in, to, [&](kidseg::RunId c) { return kept[c] != 0; });
    });
}

void fill_holes(const py::array& labels, py::array out, bool flat, int threads) {
    by_width(labels, [&](auto zero) {
        using T = decltype(zero);
        const auto in = input<T>(labels);
        const auto to = output_like<T>(out, in.shape);
        py::gil_scoped_release release;
        kidseg::fill_holes(in, to, flat, threads);
    });
}

}  // namespace

void bind_components(py::module_& m) {
    py::class_<kidseg::ComponentRuns>(m, "Components")
        .def("__len__", &kidseg::ComponentRuns::size)
        .def("write", &write_components, "out"_a)
        .def("stats", &stats_of);
    bind<std::uint8_t>(m, "Components8");
    bind<std::uint16_t>(m, "Components16");
    bind<std::uint32_t>(m, "Components32");
    bind<std::uint64_t>(m, "Components64");
    m.def("find_components", &find_components, "labels"_a, "connectivity"_a, "foreground"_a, "threads"_a);
    m.def("keep", &keep, "labels"_a, "out"_a, "k"_a, "min_voxels"_a, "connectivity"_a, "foreground"_a, "threads"_a);
    m.def("fill_holes", &fill_holes, "labels"_a, "out"_a, "flat"_a, "threads"_a);
}
