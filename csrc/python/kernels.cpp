// The compiled module; nothing else knows Python but the files that it is made of.
#include "python/bindings.hpp"

PYBIND11_MODULE(_kernels, m) {
    m.doc() = "Compiled kernels; kidseg_jax.kernels is their public face.";
    bind_components(m);
    bind_rois(m);
    bind_surfaces(m);
}
