// Connected components of a label grid: runs of each row, united with touching runs of the rows before it.
// Time is one read of the grid plus O(runs); memory is 8 bytes and a label a run, and 4 bytes a row.
// Run-based labelling: He, Chao, Suzuki 2008, "A run-based two-scan labeling algorithm", IEEE TIP 17(5).
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "grid.hpp"
#include "slab.hpp"
#include "threads.hpp"

namespace kidseg {

// What one component is made of, in the caller's axes; sums of coordinates are exact.
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
        join_slabs();
        n_ = number_sets(number_);
        if (!axes_.as_given()) renumber_in_given_order();
    }

    [[nodiscard]] Index size() const { return n_; }
    [[nodiscard]] const Axes& axes() const { return axes_; }
    [[nodiscard]] const Index3& shape() const { return shape_; }  // in the order of memory
    [[nodiscard]] Index3 given_shape() const {
        Index3 given{};
        for (std::size_t i = 0; i < 3; ++i) given[axes_.source[i]] = shape_[i];
        return given;
    }

    // out[voxel] = value(component) for every voxel of every component; other voxels are not touched.
    template <class Out, class Value>
    void write(const Grid<Out>& given_out, Value&& value) const {
        const Grid<Out> out = reordered(given_out, axes_);
        for_each_run(threads_, [&](Index z, Index y, const Run& run, RunId component) {
            fill_run(out.row(z, y), out.stride[2], run.begin, run.end, value(component));
        });
    }

    // Copies the voxels of the kept components from `given` to `given_out`, both on the labelled grid.
    template <class Keep>
    void copy_kept(const Grid<const T>& given, const Grid<T>& given_out, Keep&& keep) const {
        const Grid<const T> in = reordered(given, axes_);
        const Grid<T> out = reordered(given_out, axes_);
        for_each_run(threads_, [&](Index z, Index y, const Run& run, RunId component) {
            if (!keep(component)) return;
            const T* from = in.row(z, y);
            T* to = out.row(z, y);
            for (Index x = run.begin; x < run.end; ++x) to[x * out.stride[2]] = from[x * in.stride[2]];
        });
    }

    [[nodiscard]] std::vector<ComponentStat<T>> stats() const {
        std::vector<ComponentStat<T>> all(static_cast<std::size_t>(n_));
        for_each_run(1, [&](Index z, Index y, const Run& run, RunId component) {
            ComponentStat<T>& s = all[component];
            const Index begin = run.begin, end = run.end, length = end - begin;
            s.voxels += length;
            s.box.lo = {std::min(s.box.lo[0], z), std::min(s.box.lo[1], y), std::min(s.box.lo[2], begin)};
            s.box.hi = {std::max(s.box.hi[0], z + 1), std::max(s.box.hi[1], y + 1), std::max(s.box.hi[2], end)};
            s.sum[0] += z * length;
            s.sum[1] += y * length;
            s.sum[2] += (begin + end - 1) * length / 2;
        });
        const auto labels = source_labels();
        for (std::size_t c = 0; c < all.size(); ++c) {
            all[c].label = labels[c];
            turn_back(all[c]);
        }
        return all;
    }

    [[nodiscard]] std::vector<Index> voxel_counts() const {
        std::vector<Index> counts(static_cast<std::size_t>(n_));
        for_each_run(1, [&](Index, Index, const Run& run, RunId c) { counts[c] += Index{run.end} - run.begin; });
        return counts;
    }

    // The label of each component; zero where labels were not told apart.
    [[nodiscard]] std::vector<T> source_labels() const {
        std::vector<T> labels(static_cast<std::size_t>(n_));
        for (const Slab<T>& slab : slabs_)
            for (std::size_t i = 0; i < slab.labels.size(); ++i) labels[number_[slab.first_run + i]] = slab.labels[i];
        return labels;
    }

    // visit(z, y, run, component) for every run, in the order of memory; with threads, slabs at the same time.
    template <class Visit>
    void for_each_run(int threads, Visit&& visit) const {
        for_each_task(slabs_.size(), threads, [&](std::size_t s) {
            const Slab<T>& slab = slabs_[s];
            RunId i = 0;
            for (std::size_t local = 0; local + 1 < slab.row_start.size(); ++local) {
                const RunId end = slab.row_start[local + 1];
                if (i == end) continue;
                const Index row = slab.first_row + static_cast<Index>(local), z = row / shape_[1], y = row % shape_[1];
                for (; i < end; ++i) visit(z, y, slab.runs[i], number_[slab.first_run + i]);
            }
        });
    }

private:
    void read_slabs(const Grid<const T>& grid, int connectivity, RunsOf which) {
        const Index rows = grid.rows();
        const Index n = std::clamp<Index>(threads_ == 1 ? 1 : 4 * threads_, 1, std::max<Index>(1, rows / halo_rows(shape_)));
        slabs_.resize(static_cast<std::size_t>(n));
        for_each_task(slabs_.size(), threads_, [&](std::size_t s) {
            slabs_[s].first_row = rows * static_cast<Index>(s) / n;
            slabs_[s].last_row = rows * static_cast<Index>(s + 1) / n;
            read_slab(slabs_[s], grid, connectivity, which);
        });
    }

    // One table of parents for all slabs, and the touches between them.
    void join_slabs() {
        std::size_t total = 0;
        for (auto& slab : slabs_) {
            slab.first_run = static_cast<RunId>(total);
            total += slab.parent.size();
            require_run_count(total);
        }
        number_ = std::move(slabs_[0].parent);
        number_.resize(total);
        for (std::size_t s = 1; s < slabs_.size(); ++s) {
            Slab<T>& slab = slabs_[s];
            const Slab<T>& last = slabs_[s - 1];
            std::transform(slab.parent.begin(), slab.parent.end(), number_.begin() + slab.first_run,
                           [&](RunId p) { return p + slab.first_run; });
            slab.parent = {};
            const auto halo = static_cast<std::size_t>(slab.first_row - halo_rows(shape_) - last.first_row);
            const RunId halo_run = last.first_run + last.row_start[halo];
            for (const auto& [own, other] : slab.before) unite(number_.data(), slab.first_run + own, halo_run + other);
            slab.before = {};
        }
    }

    // Numbers follow the first voxel of each component in the caller's scan order.
    void renumber_in_given_order() {
        std::vector<Index> first(static_cast<std::size_t>(n_), INT64_MAX);
        const Index3 given = given_shape(), given_step{given[1] * given[2], given[2], 1};
        const auto along = [&](std::size_t i, Index begin, Index end) {
            return given_step[axes_.source[i]] * (axes_.flipped[i] ? shape_[i] - end : begin);
        };
        for_each_run(1, [&](Index z, Index y, const Run& run, RunId c) {
            first[c] = std::min(first[c], along(0, z, z + 1) + along(1, y, y + 1) + along(2, run.begin, run.end));
        });
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

    Axes axes_;
    int threads_;
    Index3 shape_{};
    std::vector<Slab<T>> slabs_;
    std::vector<RunId> number_;  // component of each run
    Index n_ = 0;
};

}  // namespace kidseg
