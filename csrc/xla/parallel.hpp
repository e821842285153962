// Loops on the threads of XLA's own pool, in which the caller takes part.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

#include "xla/c_interface.hpp"

namespace kidseg::xla {

inline std::atomic<int> thread_limit{0};  // 0: as many as the pool has

// One parallel loop. Helpers that XLA starts late find no task left, so the caller never waits for a queue.
struct Loop {
    std::int64_t n;
    const std::function<void(std::int64_t)>* task;
    std::atomic<std::int64_t> next{0};
    std::mutex lock;
    std::condition_variable changed;
    std::int64_t done = 0;
    std::exception_ptr error;

    void work() {
        for (std::int64_t i = next++; i < n; i = next++) {
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

inline void help(void* data) {
    const std::unique_ptr<std::shared_ptr<Loop>> loop(static_cast<std::shared_ptr<Loop>*>(data));
    (*loop)->work();
}

// What runs task(i) for every i in [0, n), in any order, and returns when all are done; an exception is rethrown.
[[nodiscard]] inline auto on_threads_of(const Call* call) {
    return [call](std::int64_t n, const std::function<void(std::int64_t)>& task) {
        const std::int64_t limit = thread_limit.load();
        const std::int64_t threads = std::min(n, limit > 0 ? limit : pool_threads(call));
        const auto loop = std::make_shared<Loop>();
        loop->n = n;
        loop->task = &task;
        for (std::int64_t i = 1; i < threads; ++i) {
            auto data = std::make_unique<std::shared_ptr<Loop>>(loop);
            if (!pool_schedule(call, help, data.get())) break;
            static_cast<void>(data.release());
        }
        loop->work();
        std::unique_lock<std::mutex> hold(loop->lock);
        loop->changed.wait(hold, [&] { return loop->done == n; });
        if (loop->error) std::rethrow_exception(loop->error);
    };
}

}  // namespace kidseg::xla
