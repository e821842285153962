// Connected components of a label grid: runs of each row, united with touching runs of the rows before it.
// Time is one read of the grid plus O(runs); memory is 16 bytes a run and 4 a row.
// Run-based labelling: He, Chao, Suzuki 2008, "A run-based two-scan labeling algorithm", IEEE TIP 17(5).
#pragma once

#include <cstddef>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "grid.hpp"
#include "runs.hpp"
#include "threads.hpp"
#include "union_find.hpp"

namespace kidseg {

// The rows [first_row, last_row) of a grid as runs; runs of row r are runs[row_start[r - first_row] ...).
template <class T>
struct Slab {
    Index first_row = 0;
    Index last_row = 0;
    RunId first_run = 0;
    std::vector<Run<T>> runs;
    std::vector<RunId> row_start;
};

// What one component is made of, in the grid's own axes; sums are exact integers.
template <class T>
struct ComponentStat {
    T label{};
    Index voxels = 0;
    Box box{{INT64_MAX, INT64_MAX, INT64_MAX}, {0, 0, 0}};
    Index3 sum{};
};

template <class T>
class Components {
public:
    // connectivity: 6, 18 or 26. Components are numbered from 0 in scan order of the caller's axes.
    Components(const Grid<const T>& given, int connectivity, RunsOf which, int threads)
        : axes_(memory_order(given.shape, given.stride)), threads_(threads) {
        if (connectivity != 6 && connectivity != 18 && connectivity != 26)
            throw std::invalid_argument("connectivity must be 6, 18 or 26, got " + std::to_string(connectivity));
        const Grid<const T> grid = reordered(given, axes_);
        shape_ = grid.shape;
        if (grid.empty()) return;
        require_row_length(shape_);
        read_slabs(grid, connectivity, which);
        join_slabs(connectivity);
        n_ = number_sets(number_);
        if (!axes_.as_given()) renumber_in_given_order();
    }

    [[nodiscard]] Index size() const { return n_; }

    // out[voxel] = values[component] for every voxel of every component; other voxels are not touched.
    template <class Out, class Value>
    void write(const Grid<Out>& given_out, Value&& value) const {
        const Grid<Out> out = reordered(given_out, axes_);
        for_each_row([&](Index z, Index y, const Run<T>& run, RunId component) {
            fill_run(out.row(z, y), out.stride[2], run.begin, run.end, value(component));
        });
    }

    // Copies the voxels of the kept components from `given` to `given_out`, both on the labelled grid.
    template <class Keep>
    void copy_kept(const Grid<const T>& given, const Grid<T>& given_out, Keep&& keep) const {
        const Grid<const T> in = reordered(given, axes_);
        const Grid<T> out = reordered(given_out, axes_);
        for_each_row([&](Index z, Index y, const Run<T>& run, RunId component) {
            if (!keep(component)) return;
            const T* from = in.row(z, y);
            T* to = out.row(z, y);
            for (Index x = run.begin; x < run.end; ++x) to[x * out.stride[2]] = from[x * in.stride[2]];
        });
    }

    [[nodiscard]] std::vector<ComponentStat<T>> stats() const {
        std::vector<ComponentStat<T>> all(static_cast<std::size_t>(n_));
        for_each_row(
            [&](Index z, Index y, const Run<T>& run, RunId component) {
                ComponentStat<T>& s = all[component];
                const Index begin = run.begin, end = run.end, length = end - begin;
                s.label = run.label;
                s.voxels += length;
                s.box.lo = {std::min(s.box.lo[0], z), std::min(s.box.lo[1], y), std::min(s.box.lo[2], begin)};
                s.box.hi = {std::max(s.box.hi[0], z + 1), std::max(s.box.hi[1], y + 1), std::max(s.box.hi[2], end)};
                s.sum[0] += z * length;
                s.sum[1] += y * length;
                s.sum[2] += (begin + end - 1) * length / 2;
            },
            1);
        for (auto& s : all) turn_back(s);
        return all;
    }

    [[nodiscard]] std::vector<Index> voxel_counts() const {
        std::vector<Index> counts(static_cast<std::size_t>(n_));
        for_each_row([&](Index, Index, const Run<T>& run, RunId c) { counts[c] += Index{run.end} - run.begin; }, 1);
        return counts;
    }

    [[nodiscard]] std::vector<T> source_labels() const {
        std::vector<T> labels(static_cast<std::size_t>(n_));
        for_each_row([&](Index, Index, const Run<T>& run, RunId c) { labels[c] = run.label; }, 1);
        return labels;
    }

    [[nodiscard]] const Axes& axes() const { return axes_; }
    [[nodiscard]] const Index3& shape() const { return shape_; }
    [[nodiscard]] Index3 given_shape() const {
        Index3 given{};
        for (std::size_t i = 0; i < 3; ++i) given[axes_.source[i]] = shape_[i];
        return given;
    }

    // visit(z, y, run, component) for every run, in the reordered grid; slabs may be visited at the same time.
    template <class Visit>
    void for_each_row(Visit&& visit, int threads = 0) const {
        for_each_task(slabs_.size(), threads > 0 ? threads : threads_, [&](std::size_t s) {
            const Slab<T>& slab = slabs_[s];
            for (Index r = slab.first_row; r < slab.last_row; ++r) {
                const auto local = static_cast<std::size_t>(r - slab.first_row);
                for (RunId i = slab.row_start[local]; i < slab.row_start[local + 1]; ++i)
                    visit(r / shape_[1], r % shape_[1], slab.runs[i], number_[slab.first_run + i]);
            }
        });
    }

private:
    struct Neighbour {
        Index dz, dy;
        std::uint32_t reach;  // 1 where runs that only touch at a corner count
    };

    [[nodiscard]] static std::vector<Neighbour> neighbours(int connectivity) {
        if (connectivity == 6) return {{0, -1, 0}, {-1, 0, 0}};
        const std::uint32_t corner = connectivity == 26 ? 1 : 0;
        return {{0, -1, 1}, {-1, -1, corner}, {-1, 0, 1}, {-1, 1, corner}};
    }

    void read_slabs(const Grid<const T>& grid, int connectivity, RunsOf which) {
        const Index rows = grid.rows();
        const auto n_slabs = static_cast<std::size_t>(std::clamp<Index>(threads_ == 1 ? 1 : 4 * threads_, 1, rows));
        slabs_.resize(n_slabs);
        std::vector<std::vector<RunId>> parents(n_slabs);
        for_each_task(n_slabs, threads_, [&](std::size_t s) {
            Slab<T>& slab = slabs_[s];
            slab.first_row = rows * static_cast<Index>(s) / static_cast<Index>(n_slabs);
            slab.last_row = rows * static_cast<Index>(s + 1) / static_cast<Index>(n_slabs);
            slab.row_start.reserve(static_cast<std::size_t>(slab.last_row - slab.first_row + 1));
            slab.row_start.push_back(0);
            RowReader<T> read(grid);
            for (Index r = slab.first_row; r < slab.last_row; ++r) {
                append_runs(read(r / shape_[1], r % shape_[1]), shape_[2], which, slab.runs);
                if (slab.runs.size() > max_runs) throw std::length_error("more than 4294967295 runs of voxels");
                slab.row_start.push_back(static_cast<RunId>(slab.runs.size()));
            }
            parents[s].resize(slab.runs.size());
            std::iota(parents[s].begin(), parents[s].end(), RunId{0});
            for (Index r = slab.first_row; r < slab.last_row; ++r)
                for (const Neighbour& n : neighbours_of(r, connectivity))
                    if (const Index q = r + n.dz * shape_[1] + n.dy; q >= slab.first_row)
                        unite_rows(slab, r, slab, q, n.reach, parents[s].data());
        });
        std::size_t total = 0;
        for (auto& slab : slabs_) {
            slab.first_run = static_cast<RunId>(total);
            total += slab.runs.size();
        }
        if (total > max_runs) throw std::length_error("more than 4294967295 runs of voxels");
        number_.reserve(total);
        for (std::size_t s = 0; s < n_slabs; ++s)
            for (const RunId p : parents[s]) number_.push_back(p + slabs_[s].first_run);
    }

    // Unites the first rows of each slab with the rows before it.
    void join_slabs(int connectivity) {
        const Index reach = shape_[1] + 1;
        for (std::size_t s = 1; s < slabs_.size(); ++s) {
            const Slab<T>& slab = slabs_[s];
            for (Index r = slab.first_row; r < std::min(slab.last_row, slab.first_row + reach); ++r)
                for (const Neighbour& n : neighbours_of(r, connectivity))
                    if (const Index q = r + n.dz * shape_[1] + n.dy; q < slab.first_row)
                        unite_rows(slab, r, slab_of(q), q, n.reach, number_.data());
        }
    }

    [[nodiscard]] const Slab<T>& slab_of(Index row) const {
        const auto after = std::upper_bound(slabs_.begin(), slabs_.end(), row,
                                            [](Index r, const Slab<T>& slab) { return r < slab.first_row; });
        return *(after - 1);
    }

    [[nodiscard]] std::vector<Neighbour> neighbours_of(Index row, int connectivity) const {
        const Index z = row / shape_[1], y = row % shape_[1];
        std::vector<Neighbour> inside;
        for (const Neighbour& n : neighbours(connectivity))
            if (z + n.dz >= 0 && y + n.dy >= 0 && y + n.dy < shape_[1]) inside.push_back(n);
        return inside;
    }

    static void unite_rows(const Slab<T>& slab_a, Index a_row, const Slab<T>& slab_b, Index b_row, std::uint32_t reach,
                           RunId* parent) {
        const auto at = [](const Slab<T>& slab, Index row) { return &slab.row_start[static_cast<std::size_t>(row - slab.first_row)]; };
        const RunId* a_span = at(slab_a, a_row);
        const RunId* b_span = at(slab_b, b_row);
        RunId b = b_span[0];
        for (RunId a = a_span[0]; a < a_span[1]; ++a) {
            const Run<T>& run = slab_a.runs[a];
            while (b < b_span[1] && slab_b.runs[b].end + reach <= run.begin) ++b;
            for (RunId c = b; c < b_span[1] && slab_b.runs[c].begin < run.end + reach; ++c)
                if (slab_b.runs[c].label == run.label) unite(parent, slab_a.first_run + a, slab_b.first_run + c);
        }
    }

    // Numbers follow the first voxel of each component in the caller's scan order.
    void renumber_in_given_order() {
        std::vector<Index> first(static_cast<std::size_t>(n_), INT64_MAX);
        Index3 step{};
        const Index3 given = given_shape(), given_step{given[1] * given[2], given[2], 1};
        for (std::size_t i = 0; i < 3; ++i) step[i] = given_step[axes_.source[i]];
        const auto along = [&](std::size_t i, Index begin, Index end) {
            return step[i] * (axes_.flipped[i] ? shape_[i] - end : begin);
        };
        for_each_row(
            [&](Index z, Index y, const Run<T>& run, RunId c) {
                first[c] = std::min(first[c], along(0, z, z + 1) + along(1, y, y + 1) + along(2, run.begin, run.end));
            },
            1);
        std::vector<RunId> order(first.size()), rank(first.size());
        std::iota(order.begin(), order.end(), RunId{0});
        std::sort(order.begin(), order.end(), [&](RunId a, RunId b) { return first[a] < first[b]; });
        for (RunId i = 0; i < order.size(); ++i) rank[order[i]] = i;
        for (RunId& number : number_) number = rank[number];
    }

    void turn_back(ComponentStat<T>& s) const {
        const Index3 sum = s.sum;
        s.box = given_order(s.box, shape_, axes_);
        for (std::size_t i = 0; i < 3; ++i)
            s.sum[axes_.source[i]] = axes_.flipped[i] ? s.voxels * (shape_[i] - 1) - sum[i] : sum[i];
    }

    static constexpr std::size_t max_runs = 0xffffffff;
    Axes axes_;
    int threads_;
    Index3 shape_{};
    std::vector<Slab<T>> slabs_;
    std::vector<RunId> number_;  // component of each run
    Index n_ = 0;
};

}  // namespace kidseg
