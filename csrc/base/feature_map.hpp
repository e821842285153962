// Feature maps, what layers of a network read and write: (case, z, y, x, channel) floats that lie side by side.
#pragma once

#include "base/grid.hpp"

namespace kidseg {

// Of a feature map without its channels. Slices are counted through the whole batch.
struct Shape {
    Index batch, depth, height, width;
    [[nodiscard]] bool operator==(const Shape& other) const {
        return batch == other.batch && depth == other.depth && height == other.height && width == other.width;
    }
    [[nodiscard]] Index slices() const { return batch * depth; }
    [[nodiscard]] Index plane() const { return height * width; }
    [[nodiscard]] Index voxels() const { return slices() * plane(); }
};

// A view of somebody else's floats.
template <class T>
struct FeatureMap {
    T* data;
    Shape shape;
    Index channels;

    [[nodiscard]] T* row(Index z, Index y) const { return data + (z * shape.height + y) * shape.width * channels; }
    [[nodiscard]] T* slice(Index z) const { return row(z, 0); }
    [[nodiscard]] T* voxel(Index i) const { return data + i * channels; }
};

using Features = FeatureMap<const float>;
using NewFeatures = FeatureMap<float>;

}  // namespace kidseg
