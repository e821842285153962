// A slab of consecutive rows, labelled on its own: the unit that threads share out.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/grid.hpp"
#include "components/run_list.hpp"
#include "components/union_find.hpp"

namespace kidseg {

// Runs of rows [first_row, last_row); those of row r are runs[row_start[r - first_row], row_start[r - first_row + 1]).
struct Slab {
    Index first_row = 0;
    Index last_row = 0;
    RunList runs;
    std::vector<RunId> row_start;
    std::vector<RunId> component;  // of each run
    RunId n_components = 0;
    std::vector<std::pair<RunId, RunId>> before;  // own run that touches a run, counted from the first row of the halo
};

// The rows before a row that can touch it.
[[nodiscard]] inline Index halo_rows(const Index3& shape) { return shape[0] > 1 ? shape[1] + 1 : 1; }

constexpr std::size_t max_runs = 0xffffffff;

inline void require_run_count(std::size_t n) {
    if (n > max_runs) throw std::length_error("more than 4294967295 runs of voxels");
}

}  // namespace kidseg
