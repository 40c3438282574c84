# Tests and benchmarks that run on a GPU. Tests exit with 77 where there is none.

# Programs that see inside: some CUDA objects, and the library's own ones for packing and the oracle, without the engine.
function(oscar_cuda_program target)
  add_executable(${target} ${ARGN} ${PROJECT_SOURCE_DIR}/src/backend/no_cuda.cpp $<TARGET_OBJECTS:oscar_core>
    ${kernel_objects})
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/cuda ${PROJECT_SOURCE_DIR}/src
    ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/tests/backends ${PROJECT_SOURCE_DIR}/tests/cuda)
  target_include_directories(${target} SYSTEM PRIVATE ${OSCAR_CUDA_INCLUDE})
  target_link_libraries(${target} PRIVATE ${oscar_libraries} Eigen3::Eigen)
endfunction()

function(oscar_cuda_test name)
  oscar_cuda_program(cuda_${name}_test ${ARGN})
  add_test(NAME cuda.${name} COMMAND cuda_${name}_test)
  set_tests_properties(cuda.${name} PROPERTIES LABELS cuda SKIP_RETURN_CODE 77)
endfunction()

list(APPEND oscar_nvcc_flags -I${PROJECT_SOURCE_DIR}/tests/cuda -I${PROJECT_SOURCE_DIR}/bench)
foreach(source tests/cuda/pack_test bench/gpu_pool bench/gpu_decode bench/gpu_pack bench/gpu_prefill)
  get_filename_component(name ${source} NAME)
  set(oscar_${name}_objects "")
  oscar_cuda_object(oscar_${name}_objects ${PROJECT_SOURCE_DIR}/${source}.cu)
endforeach()

oscar_cuda_test(decode ${PROJECT_SOURCE_DIR}/tests/cuda/decode_test.cpp ${oscar_cuda_objects})
oscar_cuda_test(step ${PROJECT_SOURCE_DIR}/tests/cuda/step_test.cpp ${oscar_step_objects})
oscar_cuda_test(prefill ${PROJECT_SOURCE_DIR}/tests/cuda/prefill_test.cpp ${oscar_prefill_objects})
oscar_cuda_test(pack ${oscar_pack_test_objects} ${oscar_pack_objects})
oscar_cuda_program(gpu_decode ${oscar_gpu_decode_objects} ${oscar_gpu_pool_objects} ${oscar_cuda_objects})
oscar_cuda_program(gpu_pack ${oscar_gpu_pack_objects} ${oscar_pack_objects})
oscar_cuda_program(gpu_prefill ${oscar_gpu_prefill_objects} ${oscar_gpu_pool_objects} ${oscar_prefill_objects})

# The property tests of the C ABI once more, with their caches on the device.
find_package(doctest REQUIRED)
add_executable(cuda_property_test ${PROJECT_SOURCE_DIR}/tests/cuda/property_main.cpp)
foreach(name drafts invariance memory model query_only)
  target_sources(cuda_property_test PRIVATE ${PROJECT_SOURCE_DIR}/tests/property/${name}.cpp)
endforeach()
target_compile_options(cuda_property_test PRIVATE -include ${PROJECT_SOURCE_DIR}/tests/cuda/on_device.h)
target_include_directories(cuda_property_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_include_directories(cuda_property_test SYSTEM PRIVATE ${OSCAR_CUDA_INCLUDE})
target_link_libraries(cuda_property_test PRIVATE oscar_static ${oscar_libraries} doctest::doctest)
add_test(NAME cuda.property COMMAND cuda_property_test)
set_tests_properties(cuda.property PROPERTIES LABELS cuda SKIP_RETURN_CODE 77)

# Programs that know the public header only.
function(oscar_cuda_client target)
  add_executable(${target} ${ARGN})
  target_include_directories(${target} SYSTEM PRIVATE ${OSCAR_CUDA_INCLUDE})
  target_link_libraries(${target} PRIVATE oscar_static ${oscar_libraries})
endfunction()

foreach(name graph memory)
  oscar_cuda_client(cuda_${name}_test ${PROJECT_SOURCE_DIR}/tests/cuda/${name}_test.cpp)
  add_test(NAME cuda.${name} COMMAND cuda_${name}_test)
  set_tests_properties(cuda.${name} PROPERTIES LABELS cuda SKIP_RETURN_CODE 77)
endforeach()
oscar_cuda_client(gpu_layer ${PROJECT_SOURCE_DIR}/bench/gpu_layer.cpp)
