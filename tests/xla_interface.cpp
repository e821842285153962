// Compiles where csrc/xla/c_interface.hpp says the same as XLA's own header: test_xla_interface.py tries.
#include "xla/c_interface.hpp"

#include "xla/ffi/api/c_api.h"

namespace ours = kidseg::xla;

#define SAME_PLACE(ours_type, ours_field, its_type, its_field)                              \
    static_assert(offsetof(ours::ours_type, ours_field) == offsetof(its_type, its_field) && \
                      sizeof(ours::ours_type::ours_field) == sizeof(its_type::its_field),   \
                  #ours_type "::" #ours_field " lies elsewhere than " #its_type "::" #its_field)

static_assert(ours::version_major == XLA_FFI_API_MAJOR, "XLA has another major version of the interface");
static_assert(ours::version_minor <= XLA_FFI_API_MINOR, "XLA has an older version of the interface");
static_assert(ours::int32 == XLA_FFI_DataType_S32 && ours::float32 == XLA_FFI_DataType_F32, "types of data differ");
static_assert(ours::metadata_extension == XLA_FFI_Extension_Metadata, "types of extensions differ");
static_assert(ours::invalid_argument == XLA_FFI_Error_Code_INVALID_ARGUMENT, "codes of errors differ");
static_assert(ours::internal_error == XLA_FFI_Error_Code_INTERNAL, "codes of errors differ");

SAME_PLACE(Extension, type, XLA_FFI_Extension_Base, type);
SAME_PLACE(Extension, next, XLA_FFI_Extension_Base, next);
SAME_PLACE(Version, extensions, XLA_FFI_Api_Version, extension_start);
SAME_PLACE(Version, major_version, XLA_FFI_Api_Version, major_version);
SAME_PLACE(Version, minor_version, XLA_FFI_Api_Version, minor_version);
SAME_PLACE(Metadata, version, XLA_FFI_Metadata, api_version);
SAME_PLACE(Metadata, traits, XLA_FFI_Metadata, traits);
SAME_PLACE(Metadata, state_type, XLA_FFI_Metadata, state_type_id);
SAME_PLACE(MetadataExtension, metadata, XLA_FFI_Metadata_Extension, metadata);
SAME_PLACE(ErrorCreate, message, XLA_FFI_Error_Create_Args, message);
SAME_PLACE(ErrorCreate, code, XLA_FFI_Error_Create_Args, errc);
SAME_PLACE(ErrorDestroy, error, XLA_FFI_Error_Destroy_Args, error);
SAME_PLACE(PoolSchedule, context, XLA_FFI_ThreadPool_Schedule_Args, ctx);
SAME_PLACE(PoolSchedule, task, XLA_FFI_ThreadPool_Schedule_Args, task);
SAME_PLACE(PoolSchedule, data, XLA_FFI_ThreadPool_Schedule_Args, data);
SAME_PLACE(PoolSize, context, XLA_FFI_ThreadPool_NumThreads_Args, ctx);
SAME_PLACE(PoolSize, threads, XLA_FFI_ThreadPool_NumThreads_Args, num_threads);
SAME_PLACE(Api, version, XLA_FFI_Api, api_version);
SAME_PLACE(Api, error_create, XLA_FFI_Api, XLA_FFI_Error_Create);
SAME_PLACE(Api, error_destroy, XLA_FFI_Api, XLA_FFI_Error_Destroy);
SAME_PLACE(Api, pool_schedule, XLA_FFI_Api, XLA_FFI_ThreadPool_Schedule);
SAME_PLACE(Api, pool_size, XLA_FFI_Api, XLA_FFI_ThreadPool_NumThreads);
SAME_PLACE(Buffer, dtype, XLA_FFI_Buffer, dtype);
SAME_PLACE(Buffer, data, XLA_FFI_Buffer, data);
SAME_PLACE(Buffer, rank, XLA_FFI_Buffer, rank);
SAME_PLACE(Buffer, dims, XLA_FFI_Buffer, dims);
SAME_PLACE(Buffers, size, XLA_FFI_Args, size);
SAME_PLACE(Buffers, at, XLA_FFI_Args, args);
SAME_PLACE(Buffers, size, XLA_FFI_Rets, size);
SAME_PLACE(Buffers, at, XLA_FFI_Rets, rets);
SAME_PLACE(Call, extensions, XLA_FFI_CallFrame, extension_start);
SAME_PLACE(Call, api, XLA_FFI_CallFrame, api);
SAME_PLACE(Call, context, XLA_FFI_CallFrame, ctx);
SAME_PLACE(Call, stage, XLA_FFI_CallFrame, stage);
SAME_PLACE(Call, inputs, XLA_FFI_CallFrame, args);
SAME_PLACE(Call, outputs, XLA_FFI_CallFrame, rets);
SAME_PLACE(Call, attributes, XLA_FFI_CallFrame, attrs);
