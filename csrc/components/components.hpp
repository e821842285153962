// Connected components of a label grid: runs of each row, united with touching runs of the rows before it.
// Time is one read of the grid plus O(runs).
// Run-based labelling: He, Chao, Suzuki 2008, "A run-based two-scan labeling algorithm", IEEE TIP 17(5).
#pragma once

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "components/component_runs.hpp"
#include "base/grid.hpp"
#include "components/read_slab.hpp"
#include "base/threads.hpp"

namespace kidseg {

template <class T>
class Components : public ComponentRuns {
public:
    // connectivity: 6, 18 or 26.
    Components(const Grid<const T>& given, int connectivity, RunsOf which, int threads)
        : ComponentRuns(memory_order(given.shape, given.stride), {}, threads) {
        if (connectivity != 6 && connectivity != 18 && connectivity != 26)
            throw std::invalid_argument("connectivity must be 6, 18 or 26, got " + std::to_string(connectivity));
        const Grid<const T> grid = reordered(given, axes_);
        shape_ = grid.shape;
        if (grid.empty()) return;
        require_row_length(shape_);
        read_slabs(grid, connectivity, which);
        join_slabs();
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

    // The label of each component; zero where labels were not told apart.
    [[nodiscard]] std::vector<T> source_labels() const {
        std::vector<T> labels(static_cast<std::size_t>(n_));
        for (std::size_t s = 0; s < slabs_.size(); ++s)
            for (std::size_t i = 0; i < labels_[s].size(); ++i) labels[slabs_[s].component[i]] = labels_[s][i];
        return labels;
    }

private:
    // Large slabs first, as rows beside another slab are read twice; small ones last, so that threads end together.
    void share_out_rows(Index rows) {
        const Index threads = threads_, least = std::max(halo_rows(shape_), rows / (16 * threads));
        for (Index row = 0; row < rows;) {
            Index n = threads == 1 ? rows : std::max(least, (rows - row) / (2 * threads));
            if (rows - row - n < least) n = rows - row;
            slabs_.emplace_back();
            slabs_.back().first_row = row;
            slabs_.back().last_row = row += n;
        }
    }

    void read_slabs(const Grid<const T>& grid, int connectivity, RunsOf which) {
        share_out_rows(grid.rows());
        labels_.resize(slabs_.size());
        for_each_task(slabs_.size(), threads_,
                      [&](std::size_t s) { read_slab(slabs_[s], labels_[s], grid, connectivity, which); });
    }

    std::vector<Blocks<T>> labels_;  // of each run of a slab; only where labels are told apart
};

}  // namespace kidseg
