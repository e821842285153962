// Which component each run of a label grid belongs to, and what can be told from runs alone.
// Memory is 8 bytes a run, and 4 bytes a row.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <numeric>
#include <vector>

#include "base/grid.hpp"
#include "components/slab.hpp"
#include "base/threads.hpp"

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
        n_ = first.back();
        if (slabs_.size() > 1) unite_slabs(first);
        if (!axes_.as_given()) renumber_in_given_order();
    }

    Axes axes_;
    int threads_;
    Index3 shape_;
    std::vector<Slab> slabs_;
    Index n_ = 0;

private:
    // Components of slab s are first[s], first[s] + 1, ... Work outside the tasks grows with the faces of slabs only.
    void unite_slabs(const std::vector<RunId>& first) {
        const std::size_t n_slabs = slabs_.size();
        const std::unique_ptr<RunId[]> number(new RunId[first.back()]);  // not zeroed: each task touches its own part
        for_each_task(n_slabs, threads_, [&](std::size_t s) {
            std::iota(number.get() + first[s], number.get() + first[s + 1], first[s]);
        });
        std::vector<RunId> joined, root;  // components that are part of an earlier one, and of which
        for (std::size_t s = 1; s < n_slabs; ++s) {
            Slab& slab = slabs_[s];
            const Slab& last = slabs_[s - 1];
            const RunId halo_run =
                last.row_start[static_cast<std::size_t>(slab.first_row - halo_rows(shape_) - last.first_row)];
            for (const auto& [own, other] : slab.before) {
                const RunId a = find_root(number.get(), first[s] + slab.component[own]);
                const RunId b = find_root(number.get(), first[s - 1] + last.component[halo_run + other]);
                if (a != b) joined.push_back(std::max(a, b));
                unite(number.get(), a, b);
            }
            slab.before = {};
        }
        n_ -= static_cast<Index>(joined.size());
        std::vector<RunId> before(n_slabs + 1);  // joined components of the slabs before
        for (const RunId c : joined) {
            root.push_back(find_root(number.get(), c));
            ++before[static_cast<std::size_t>(std::upper_bound(first.begin(), first.end(), c) - first.begin())];
        }
        std::partial_sum(before.begin(), before.end(), before.begin());
        for_each_task(n_slabs, threads_, [&](std::size_t s) {
            RunId next = first[s] - before[s];
            for (RunId c = first[s]; c < first[s + 1]; ++c)
                if (number[c] == c) number[c] = next++;
        });
        for (std::size_t i = 0; i < joined.size(); ++i) number[joined[i]] = number[root[i]];
        for_each_task(n_slabs, threads_, [&](std::size_t s) {
            for (RunId& c : slabs_[s].component) c = number[first[s] + c];
        });
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
        const std::vector<RunId> rank = ranks(first, given[0] * given[1] * given[2]);
        for_each_task(slabs_.size(), threads_, [&](std::size_t s) {
            for (RunId& c : slabs_[s].component) c = rank[c];
        });
    }

    // How many of the places, which differ and lie in [0, end), are before each: sorted by stretch, then within each.
    [[nodiscard]] std::vector<RunId> ranks(const std::vector<Index>& places, Index end) const {
        constexpr Index per_stretch = 8, per_task = 1024;
        const Index n = static_cast<Index>(places.size()), length = per_stretch * end / std::max<Index>(n, 1) + 1;
        const Index n_stretches = end / length + 1;
        const auto stretch = [&](RunId c) { return static_cast<std::size_t>(places[c] / length); };
        std::vector<RunId> start(static_cast<std::size_t>(n_stretches + 2)), order(places.size()), rank(places.size());
        for (RunId c = 0; c < places.size(); ++c) ++start[stretch(c) + 2];
        std::partial_sum(start.begin(), start.end(), start.begin());
        for (RunId c = 0; c < places.size(); ++c) order[start[stretch(c) + 1]++] = c;
        for_each_task(static_cast<std::size_t>(n_stretches / per_task + 1), threads_, [&](std::size_t task) {
            const auto from = static_cast<std::size_t>(per_task) * task;
            const std::size_t to = std::min(from + per_task, static_cast<std::size_t>(n_stretches));
            for (std::size_t s = from; s < to; ++s) {
                const auto at = [&](RunId i) { return order.begin() + static_cast<std::ptrdiff_t>(i); };
                std::sort(at(start[s]), at(start[s + 1]), [&](RunId a, RunId b) { return places[a] < places[b]; });
                for (RunId i = start[s]; i < start[s + 1]; ++i) rank[order[i]] = i;
            }
        });
        return rank;
    }

    void turn_back(ComponentStat& s) const {
        const Index3 sum = s.sum;
        s.box = given_order(s.box, shape_, axes_);
        for (std::size_t i = 0; i < 3; ++i)
            s.sum[axes_.source[i]] = axes_.flipped[i] ? s.voxels * (shape_[i] - 1) - sum[i] : sum[i];
    }
};

}  // namespace kidseg
