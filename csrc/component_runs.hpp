// Which component each run of a label grid belongs to, and what can be told from runs alone.
// Memory is 8 bytes a run, and 4 bytes a row.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "grid.hpp"
#include "slab.hpp"
#include "threads.hpp"

namespace kidseg {

// What one component is made of, in the caller's axes; sums of coordinates are exact.
struct ComponentStat {
    Index voxels = 0;
    Box box{{INT64_MAX, INT64_MAX, INT64_MAX}, {0, 0, 0}};
    Index3 sum{};
};

// Components are numbered from 0 in scan order of the caller's axes.
class ComponentRuns {
public:
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

    [[nodiscard]] std::vector<ComponentStat> stats() const {
        std::vector<ComponentStat> all(static_cast<std::size_t>(n_));
        for_each_run(1, [&](Index z, Index y, const Run& run, RunId component) {
            ComponentStat& s = all[component];
            const Index begin = run.begin, end = run.end, length = end - begin;
            s.voxels += length;
            s.box.lo = {std::min(s.box.lo[0], z), std::min(s.box.lo[1], y), std::min(s.box.lo[2], begin)};
            s.box.hi = {std::max(s.box.hi[0], z + 1), std::max(s.box.hi[1], y + 1), std::max(s.box.hi[2], end)};
            s.sum[0] += z * length;
            s.sum[1] += y * length;
            s.sum[2] += (begin + end - 1) * length / 2;
        });
        for (ComponentStat& s : all) turn_back(s);
        return all;
    }

    [[nodiscard]] std::vector<Index> voxel_counts() const {
        std::vector<Index> counts(static_cast<std::size_t>(n_));
        for_each_run(1, [&](Index, Index, const Run& run, RunId c) { counts[c] += Index{run.end} - run.begin; });
        return counts;
    }

    // visit(z, y, run, component) for every run, in the order of memory; with threads, slabs at the same time.
    template <class Visit>
    void for_each_run(int threads, Visit&& visit) const {
        for_each_task(slabs_.size(), threads, [&](std::size_t s) {
            const Slab& slab = slabs_[s];
            RunId i = 0;
            for (std::size_t local = 0; local + 1 < slab.row_start.size(); ++local) {
                const RunId end = slab.row_start[local + 1];
                if (i == end) continue;
                const Index row = slab.first_row + static_cast<Index>(local), z = row / shape_[1], y = row % shape_[1];
                for (; i < end; ++i) visit(z, y, slab.runs[i], slab.component[i]);
            }
        });
    }

protected:
    ComponentRuns(const Axes& axes, const Index3& shape, int threads) : axes_(axes), threads_(threads), shape_(shape) {}

    // Slabs number their components on their own; here those that touch become one.
    void join_slabs() {
        require_run_count(std::accumulate(slabs_.begin(), slabs_.end(), std::size_t{0},
                                          [](std::size_t n, const Slab& slab) { return n + slab.component.size(); }));
        std::vector<RunId> first(slabs_.size() + 1);
        for (std::size_t s = 0; s < slabs_.size(); ++s) first[s + 1] = first[s] + slabs_[s].n_components;
        std::vector<RunId> number(slabs_.size() > 1 ? first.back() : 0);
        std::iota(number.begin(), number.end(), RunId{0});
        for (std::size_t s = 1; s < slabs_.size(); ++s) {
            Slab& slab = slabs_[s];
            const Slab& last = slabs_[s - 1];
            const RunId halo_run = last.row_start[static_cast<std::size_t>(slab.first_row - halo_rows(shape_) - last.first_row)];
            for (const auto& [own, other] : slab.before)
                unite(number.data(), first[s] + slab.component[own], first[s - 1] + last.component[halo_run + other]);
            slab.before = {};
        }
        n_ = slabs_.size() > 1 ? number_sets(number) : first.back();
        for_each_task(slabs_.size(), threads_, [&](std::size_t s) {
            if (slabs_.size() > 1)
                for (RunId& c : slabs_[s].component) c = number[first[s] + c];
        });
        if (!axes_.as_given()) renumber_in_given_order();
    }

    Axes axes_;
    int threads_;
    Index3 shape_;
    std::vector<Slab> slabs_;
    Index n_ = 0;

private:
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
        for_each_task(slabs_.size(), threads_, [&](std::size_t s) {
            for (RunId& c : slabs_[s].component) c = rank[c];
        });
    }

    void turn_back(ComponentStat& s) const {
        const Index3 sum = s.sum;
        s.box = given_order(s.box, shape_, axes_);
        for (std::size_t i = 0; i < 3; ++i)
            s.sum[axes_.source[i]] = axes_.flipped[i] ? s.voxels * (shape_[i] - 1) - sum[i] : sum[i];
    }
};

}  // namespace kidseg
