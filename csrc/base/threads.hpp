// Independent tasks on a given number of threads; the first exception of any task is rethrown.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace kidseg {

// task(i) for every i in [0, n), in any order; what task(i) writes must not depend on the order.
template <class Task>
void for_each_task(std::size_t n, int threads, Task&& task) {
    const std::size_t workers = std::min(n, static_cast<std::size_t>(std::max(threads, 1)));
    if (workers <= 1) {
        for (std::size_t i = 0; i < n; ++i) task(i);
        return;
    }
    std::atomic<std::size_t> next{0};
    std::exception_ptr error;
    std::mutex error_lock;
    const auto work = [&] {
        try {
            for (std::size_t i = next++; i < n; i = next++) task(i);
        } catch (...) {
            const std::lock_guard<std::mutex> hold(error_lock);
            if (!error) error = std::current_exception();
            next = n;
        }
    };
    std::vector<std::thread> pool;
    pool.reserve(workers - 1);
    try {
        for (std::size_t w = 1; w < workers; ++w) pool.emplace_back(work);
    } catch (...) {  // fewer threads than asked for are enough
    }
    work();
    for (auto& thread : pool) thread.join();
    if (error) std::rethrow_exception(error);
}

}  // namespace kidseg
