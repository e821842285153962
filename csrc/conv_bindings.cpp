// Custom calls of XLA on CPU: unwraps the buffers, shares the work out on XLA's own threads, calls. Holds no GIL.
#include <pybind11/pybind11.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>

#include "conv3d.hpp"
#include "xla_ffi.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace {

using kidseg::conv::Index;
namespace conv = kidseg::conv;
namespace xla = kidseg::xla;

std::atomic<int> thread_limit{0};
std::atomic<int> instruction_set{static_cast<int>(conv::Isa::best)};

// One parallel loop. Helpers that XLA starts late find no task left, so the caller never waits for a queue.
struct Loop {
    Index n;
    const std::function<void(Index)>* task;
    std::atomic<Index> next{0};
    std::mutex lock;
    std::condition_variable changed;
    Index done = 0;
    std::exception_ptr error;

    void work() {
        for (Index i = next++; i < n; i = next++) {
            std::exception_ptr failed;
            try {
                (*task)(i);
            } catch (...) {
                failed = std::current_exception();
            }
            const std::lock_guard<std::mutex> hold(lock);
            if (failed) error = failed;
            if (++done == n) changed.notify_all();
        }
    }
};

void help(void* data) {
    const std::unique_ptr<std::shared_ptr<Loop>> loop(static_cast<std::shared_ptr<Loop>*>(data));
    (*loop)->work();
}

conv::Parallel on_xla_threads(const xla::Call* call) {
    return [call](Index n, const std::function<void(Index)>& task) {
        const Index limit = thread_limit.load();
        const Index threads = std::min(n, limit > 0 ? limit : xla::pool_threads(call));
        const auto loop = std::make_shared<Loop>();
        loop->n = n;
        loop->task = &task;
        for (Index i = 1; i < threads; ++i) {
            auto data = std::make_unique<std::shared_ptr<Loop>>(loop);
            if (!xla::pool_schedule(call, help, data.get())) break;
            static_cast<void>(data.release());
        }
        loop->work();
        std::unique_lock<std::mutex> hold(loop->lock);
        loop->changed.wait(hold, [&] { return loop->done == n; });
        if (loop->error) std::rethrow_exception(loop->error);
    };
}

const xla::Buffer& buffer(const xla::Buffers& buffers, std::int64_t i, std::int64_t rank) {
    if (i >= buffers.size || buffers.at[i]->rank != rank || buffers.at[i]->dtype != xla::float32)
        throw std::invalid_argument("conv3d: need float32 buffers of rank 5");
    return *buffers.at[i];
}

const float* read(const xla::Buffer& b) { return static_cast<const float*>(b.data); }
float* write(const xla::Buffer& b) { return static_cast<float*>(b.data); }

conv::Shape voxels(const xla::Buffer& b) { return {b.dims[0], b.dims[1], b.dims[2], b.dims[3]}; }

void require(bool holds) {
    if (!holds) throw std::invalid_argument("conv3d: shapes of the buffers do not fit together");
}

void require_like(const xla::Buffer& a, const xla::Buffer& b) {
    require(std::equal(a.dims, a.dims + 4, b.dims));
}

conv::Isa isa() { return static_cast<conv::Isa>(instruction_set.load()); }

// (x_1, kernel_1, x_2, kernel_2, ...) -> y, or (g, kernel) -> the gradient in x.
template <bool adjoint>
void forward(const xla::Call* call) {
    const xla::Buffer& y = buffer(call->outputs, 0, 5);
    std::vector<conv::Input> inputs;
    for (std::int64_t i = 0; i < call->inputs.size; i += 2) {
        const xla::Buffer &x = buffer(call->inputs, i, 5), &k = buffer(call->inputs, i + 1, 5);
        require_like(x, y);
        require(k.dims[0] == 3 && k.dims[1] == 3 && k.dims[2] == 3 && k.dims[adjoint ? 4 : 3] == x.dims[4] &&
                k.dims[adjoint ? 3 : 4] == y.dims[4]);
        inputs.push_back({read(x), read(k), x.dims[4]});
    }
    conv::forward(inputs, voxels(y), write(y), y.dims[4], on_xla_threads(call), adjoint, isa());
}

// (x, g) -> the gradient in the kernel.
void kernel_gradient(const xla::Call* call) {
    const xla::Buffer &x = buffer(call->inputs, 0, 5), &g = buffer(call->inputs, 1, 5), &k = buffer(call->outputs, 0, 5);
    require_like(x, g);
    require(k.dims[0] == 3 && k.dims[1] == 3 && k.dims[2] == 3 && k.dims[3] == x.dims[4] && k.dims[4] == g.dims[4]);
    conv::kernel_gradient(read(x), x.dims[4], read(g), g.dims[4], voxels(x), write(k), on_xla_threads(call), isa());
}

template <void (*run)(const xla::Call*)>
xla::Error* handler(xla::Call* call) {
    if (xla::answered_metadata(call)) return nullptr;
    try {
        run(call);
    } catch (const std::invalid_argument& e) {
        return xla::error(call, xla::invalid_argument, e.what());
    } catch (const std::exception& e) {
        return xla::error(call, xla::internal_error, e.what());
    }
    return nullptr;
}

template <void (*run)(const xla::Call*)>
py::capsule capsule() {
    return py::capsule(reinterpret_cast<void*>(handler<run>), "xla._CUSTOM_CALL_TARGET");
}

}  // namespace

PYBIND11_MODULE(_conv, m) {
    m.doc() = "Custom calls of XLA on CPU: see kidseg_jax/network/conv3d.py.";
    m.def("targets", [] {
        py::dict targets;
        targets["kidseg_conv3d"] = capsule<forward<false>>();
        targets["kidseg_conv3d_input_gradient"] = capsule<forward<true>>();
        targets["kidseg_conv3d_kernel_gradient"] = capsule<kernel_gradient>();
        return targets;
    });
    m.def("set_threads", [](int threads) { thread_limit = threads; }, "threads"_a);
    m.def("set_instruction_set", [](int isa) { instruction_set = isa; }, "isa"_a);
}
