// Reads a slab of rows into runs and unites those that touch.
#pragma once

#include <algorithm>
#include <vector>

#include "base/instruction_sets.hpp"
#include "components/runs.hpp"
#include "components/slab.hpp"
#include "components/union_find.hpp"

namespace kidseg {

// How the runs of a row touch those of an earlier row (dz, dy) away.
struct Neighbour {
    Index dz, dy;
    bool corners;  // whether runs that only meet at a corner touch
};

[[nodiscard]] inline std::vector<Neighbour> earlier_neighbours(int connectivity) {
    if (connectivity == 6) return {{-1, 0, false}, {0, -1, false}};
    const bool corner = connectivity == 26;
    return {{-1, -1, corner}, {-1, 0, true}, {-1, 1, corner}, {0, -1, true}};
}

namespace detail {

template <class T>
KIDSEG_INLINE void unite_rows(Slab& slab, const RowBits<T>& a, const RowBits<T>& b, bool corners, bool b_in_halo) {
    const auto alike = [&](RunId i, RunId j) { return a.labels[i - a.first_id] == b.labels[j - b.first_id]; };
    if (b_in_halo) {
        for_each_touch(a, b, corners, [&](RunId i, RunId j) {
            if (alike(i, j)) slab.before.emplace_back(i, j);
        });
    } else {
        for_each_touch(a, b, corners, [&](RunId i, RunId j) {
            if (alike(i, j)) unite(slab.component.data(), i, j);
        });
    }
}

// The last rows are held as bits in a ring; each new row is united with its neighbours among them.
template <class T>
inline void read_rows(Slab& slab, Blocks<T>& labels, const Grid<const T>& grid, int connectivity, RunsOf which) {
    const Index ny = grid.shape[1], nx = grid.shape[2], halo = halo_rows(grid.shape);
    std::vector<RowBits<T>> ring(static_cast<std::size_t>(halo + 1), RowBits<T>(nx));
    std::vector<Run> runs(static_cast<std::size_t>(nx));
    std::vector<RunId>& parent = slab.component;
    const auto around = earlier_neighbours(connectivity);
    RowReader<T> voxels(grid);
    slab.runs = RunList(nx);
    slab.row_start.resize(static_cast<std::size_t>(slab.last_row - slab.first_row + 1));
    RunId halo_runs = 0;
    Index r = std::max<Index>(0, slab.first_row - halo), z = r / ny, y = r % ny, slot = 0;
    for (; r < slab.last_row; ++r, ++y, ++slot) {
        if (y == ny) {
            y = 0;
            ++z;
        }
        if (slot > halo) slot = 0;
        RowBits<T>& row = ring[static_cast<std::size_t>(slot)];
        const bool in_halo = r < slab.first_row;
        row.read(voxels(z, y), nx, which, in_halo ? halo_runs : static_cast<RunId>(parent.size()), runs);
        if (in_halo) {
            halo_runs += row.n_runs;
            continue;
        }
        if (row.any) {
            require_run_count(parent.size() + row.n_runs);
            slab.runs.append(runs.data(), row.n_runs);
            if (which == RunsOf::each_label) labels.append(row.labels.data(), row.n_runs);
            for (RunId i = 0; i < row.n_runs; ++i) parent.push_back(row.first_id + i);
            for (const Neighbour& n : around) {
                if (z + n.dz < 0 || y + n.dy < 0 || y + n.dy >= ny) continue;
                const Index back = n.dz * ny + n.dy, other = slot + back;
                const RowBits<T>& earlier = ring[static_cast<std::size_t>(other < 0 ? other + halo + 1 : other)];
                if (earlier.any) unite_rows(slab, row, earlier, n.corners, r + back < slab.first_row);
            }
        }
        slab.row_start[static_cast<std::size_t>(r - slab.first_row + 1)] = static_cast<RunId>(parent.size());
    }
}

template <class T>
KIDSEG_AVX2 void read_rows_avx2(Slab& slab, Blocks<T>& labels, const Grid<const T>& grid, int connectivity,
                                RunsOf which) {
    read_rows(slab, labels, grid, connectivity, which);
}

}  // namespace detail

// Fills a slab and the labels of its runs; first_row and last_row are given.
template <class T>
void read_slab(Slab& slab, Blocks<T>& labels, const Grid<const T>& grid, int connectivity, RunsOf which) {
    if (usable(Isa::avx2) == Isa::avx2) detail::read_rows_avx2(slab, labels, grid, connectivity, which);
    else detail::read_rows(slab, labels, grid, connectivity, which);
    slab.n_components = number_sets(slab.component);
}

}  // namespace kidseg
