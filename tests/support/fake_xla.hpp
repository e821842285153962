// A stand-in for XLA: buffers exactly as long as their shapes say, outputs that begin as NaN, and a pool of threads
// whose helpers are refused, start at once or start after the call has returned and its inputs are gone.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "xla/calls.hpp"

enum class Helpers { refused, at_once, late };

namespace kidseg::xla {

struct Error {
    std::string message;
};

struct Context {
    Helpers helpers;
    std::vector<std::thread> started;
    std::vector<std::pair<void (*)(void*), void*>> waiting;
};

}  // namespace kidseg::xla

namespace fake_xla {

namespace xla = kidseg::xla;
using kidseg::Index;
using kidseg::Isa;
using Dims = std::vector<Index>;

inline Index product(const Dims& dims) {
    Index n = 1;
    for (const Index d : dims) n *= d;
    return n;
}

struct Array {
    Dims dims;
    std::vector<float> values;
    std::vector<std::int32_t> labels;  // in place of values

    [[nodiscard]] xla::Buffer buffer() {
        const auto rank = static_cast<Index>(dims.size());
        if (labels.empty()) return {sizeof(xla::Buffer), nullptr, xla::float32, values.data(), rank, dims.data()};
        return {sizeof(xla::Buffer), nullptr, xla::int32, labels.data(), rank, dims.data()};
    }
};

using Arrays = std::vector<Array>;

inline xla::Error* create_error(xla::ErrorCreate* args) { return new xla::Error{args->message}; }

inline void destroy_error(xla::ErrorDestroy* args) { delete args->error; }

inline xla::Error* schedule(xla::PoolSchedule* args) {
    auto& [helpers, started, waiting] = *args->context;
    if (helpers == Helpers::refused) return new xla::Error{"no helper"};
    if (helpers == Helpers::at_once) started.emplace_back(args->task, args->data);
    else waiting.emplace_back(args->task, args->data);
    return nullptr;
}

inline xla::Error* pool_size(xla::PoolSize* args) {
    *args->threads = 3;
    return nullptr;
}

// Calls run(call) and lets all helpers come to their end; returns what run returns.
template <class Run>
auto in_call(Arrays inputs, Arrays& outputs, Helpers helpers, Run&& run) {
    xla::Api api{};
    api.error_create = create_error, api.error_destroy = destroy_error;
    api.pool_schedule = schedule, api.pool_size = pool_size;
    xla::Context context{helpers, {}, {}};
    std::vector<xla::Buffer> buffers;
    for (auto* arrays : {&inputs, &outputs})
        for (auto& each : *arrays) buffers.push_back(each.buffer());
    std::vector<xla::Buffer*> at;
    for (auto& each : buffers) at.push_back(&each);
    const auto n_in = static_cast<Index>(inputs.size()), n_out = static_cast<Index>(outputs.size());
    xla::Call call{sizeof(xla::Call), nullptr, &api, &context, 0, {}, {}, {}};
    call.inputs = {sizeof(xla::Buffers), nullptr, n_in, nullptr, at.data()};
    call.outputs = {sizeof(xla::Buffers), nullptr, n_out, nullptr, at.data() + n_in};
    auto result = run(call);
    inputs = {};
    for (const auto& [task, data] : context.waiting) task(data);
    for (auto& thread : context.started) thread.join();
    return result;
}

// The outputs of a custom call; its error is thrown.
inline Arrays outputs_of(const std::string& name, const Arrays& inputs, const std::vector<Dims>& shapes,
                         Helpers helpers) {
    Arrays outputs;
    for (const Dims& dims : shapes)
        outputs.push_back({dims, std::vector<float>(static_cast<std::size_t>(product(dims)), std::nanf("")), {}});
    for (const auto& target : kidseg::calls::targets)
        if (target.name == name) {
            const auto run = [&](xla::Call& call) { return target.run(&call); };
            const std::unique_ptr<xla::Error> error(in_call(inputs, outputs, helpers, run));
            if (error) throw std::invalid_argument(error->message);
            return outputs;
        }
    throw std::runtime_error("no such call");
}

struct Expected {
    Dims dims;
    std::vector<double> values;
    double scale = 0;  // of what cancels in them
};

inline void compare(const std::string& where, const Array& ours, const Expected& expected) {
    double largest = expected.scale;
    for (const double v : expected.values) largest = std::max(largest, std::abs(v));
    for (std::size_t i = 0; i < expected.values.size(); ++i)
        if (!(std::abs(double{ours.values[i]} - expected.values[i]) <= 1e-5 * largest))
            throw std::runtime_error(where + ": need " + std::to_string(expected.values[i]) + " at " +
                                     std::to_string(i) + ", got " + std::to_string(ours.values[i]));
}

inline int checked = 0;

// Throws unless the outputs are as expected with every instruction set of this machine, the same bits with all helpers.
inline void check(const std::string& name, const Arrays& inputs, const std::vector<Expected>& expected) {
    std::string where = name;
    for (const auto& each : inputs) {
        where += " (";
        for (const Index d : each.dims) where += " " + std::to_string(d);
        where += " )";
    }
    std::vector<Dims> shapes;
    for (const auto& each : expected) shapes.push_back(each.dims);
    for (const auto isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
        if (kidseg::usable(isa) != isa) continue;
        kidseg::calls::instruction_set = isa;
        const std::string here = where + ", instruction set " + std::to_string(static_cast<int>(isa));
        const Arrays ours = outputs_of(name, inputs, shapes, Helpers::refused);
        for (std::size_t i = 0; i < ours.size(); ++i)
            compare(here + ", output " + std::to_string(i), ours[i], expected[i]);
        for (const auto helpers : {Helpers::at_once, Helpers::late}) {
            const Arrays again = outputs_of(name, inputs, shapes, helpers);
            for (std::size_t i = 0; i < ours.size(); ++i)
                if (again[i].values != ours[i].values)
                    throw std::runtime_error(here + ": other bits with other helpers");
        }
        ++checked;
    }
}

// Throws unless every call refuses to run without buffers.
inline void check_refusals() {
    for (const auto& target : kidseg::calls::targets) {
        try {
            static_cast<void>(outputs_of(target.name, {}, {}, Helpers::refused));
        } catch (const std::invalid_argument&) {
            continue;
        }
        throw std::runtime_error(std::string(target.name) + ": a call without buffers is not refused");
    }
}

// Throws unless the error of a task reaches the caller, whichever thread meets it.
inline void check_errors_of_tasks() {
    for (const auto helpers : {Helpers::refused, Helpers::at_once, Helpers::late}) {
        Arrays none;
        const bool thrown = in_call({}, none, helpers, [](const xla::Call& call) {
            try {
                const auto run = xla::on_threads_of(&call);
                run(9, [](Index i) {
                    if (i % 4 == 3) throw std::out_of_range("task");
                });
            } catch (const std::out_of_range&) {
                return true;
            }
            return false;
        });
        if (!thrown) throw std::runtime_error("the error of a task is lost");
    }
}

}  // namespace fake_xla
