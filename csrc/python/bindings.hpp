// The parts of the module; each wraps arrays as grids, releases the GIL, calls, converts.
#pragma once

#include <pybind11/pybind11.h>

void bind_components(pybind11::module_& m);
void bind_rois(pybind11::module_& m);
void bind_surfaces(pybind11::module_& m);
