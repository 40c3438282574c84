# The CUDA engine, included where OSCAR_CUDA is ON: adds to ${oscar_objects} and ${oscar_libraries}.
#
#   OSCAR_CUDA_ARCHITECTURES   what the general kernels are compiled for, with PTX of the first; 90a must be among them, and
#                              is all that decode attention and the wide prefill kernel are compiled for
#   OSCAR_CUDA_RACECHECK       for runs under compute-sanitizer --tool racecheck
# nvcc is what CUDACXX or CMAKE_CUDA_COMPILER names, else the first one in PATH. The toolkit may be an unpacked wheel: its
# libraries are then in lib instead of lib64. Nothing here needs a GPU.
set(OSCAR_CUDA_ARCHITECTURES 80 90a CACHE STRING "GPU architectures to compile for")
option(OSCAR_CUDA_RACECHECK "Barriers as compute-sanitizer's racecheck understands them (slower)" OFF)

if(CMAKE_CUDA_COMPILER)
  set(OSCAR_NVCC ${CMAKE_CUDA_COMPILER} CACHE FILEPATH "nvcc")
elseif(DEFINED ENV{CUDACXX})
  set(OSCAR_NVCC $ENV{CUDACXX} CACHE FILEPATH "nvcc")
else()
  find_program(OSCAR_NVCC nvcc REQUIRED)
endif()
get_filename_component(oscar_nvcc ${OSCAR_NVCC} REALPATH)
get_filename_component(oscar_cuda_root ${oscar_nvcc} DIRECTORY)
get_filename_component(oscar_cuda_root ${oscar_cuda_root} DIRECTORY)
find_library(OSCAR_CUDART cudart_static PATHS ${oscar_cuda_root}
  PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib targets/sbsa-linux/lib REQUIRED NO_DEFAULT_PATH)
find_path(OSCAR_CUDA_INCLUDE cuda_runtime_api.h PATHS ${oscar_cuda_root}
  PATH_SUFFIXES include targets/x86_64-linux/include targets/sbsa-linux/include REQUIRED NO_DEFAULT_PATH)
find_package(Threads REQUIRED)

set(oscar_nvcc_flags -std=c++20 -O3 -Xcompiler=-fPIC,-fvisibility=hidden,-fvisibility-inlines-hidden
  -I${PROJECT_SOURCE_DIR} -I${PROJECT_SOURCE_DIR}/cuda -I${PROJECT_SOURCE_DIR}/src --ftz=false --prec-div=true --prec-sqrt=true)
if(OSCAR_CUDA_RACECHECK)
  list(APPEND oscar_nvcc_flags -DOSCAR_RACECHECK -lineinfo)
endif()
set(oscar_hopper_flags -gencode=arch=compute_90a,code=sm_90a)
if(NOT 90a IN_LIST OSCAR_CUDA_ARCHITECTURES)
  message(FATAL_ERROR "OSCAR_CUDA_ARCHITECTURES is ${OSCAR_CUDA_ARCHITECTURES}: 90a must be among them")
endif()
list(GET OSCAR_CUDA_ARCHITECTURES 0 oscar_first)
set(oscar_general_flags -gencode=arch=compute_${oscar_first},code=compute_${oscar_first})
foreach(architecture ${OSCAR_CUDA_ARCHITECTURES})
  list(APPEND oscar_general_flags -gencode=arch=compute_${architecture},code=sm_${architecture})
endforeach()
file(GLOB oscar_cuda_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.h ${PROJECT_SOURCE_DIR}/cuda/*.cuh
  ${PROJECT_SOURCE_DIR}/cuda/*.inc)

# oscar_cuda_object(OUT SOURCE): compiles a .cu file for compute capability 9.0 and appends the object to the list OUT; with
# GENERAL behind it, for all architectures. Called directly and not by CMake's CUDA language, whose compiler check wants a
# whole toolkit where a few wheels are enough.
function(oscar_cuda_object out source)
  get_filename_component(name ${source} NAME_WE)
  set(object ${PROJECT_BINARY_DIR}/cuda/${name}.o)
  set(flags ${oscar_hopper_flags})
  if("GENERAL" IN_LIST ARGN)
    set(flags ${oscar_general_flags})
  endif()
  add_custom_command(OUTPUT ${object}
    COMMAND ${oscar_nvcc} ${oscar_nvcc_flags} ${flags} -ccbin ${CMAKE_CXX_COMPILER} -c ${source} -o ${object}
    DEPENDS ${source} ${oscar_cuda_headers} ${PROJECT_SOURCE_DIR}/src/format/block.h
            ${PROJECT_SOURCE_DIR}/src/transform/transform.h
    COMMENT "nvcc ${name}.cu" VERBATIM)
  set(${out} ${${out}} ${object} PARENT_SCOPE)
endfunction()

# One source per line of instances.inc: they compile in parallel.
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/cuda)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/instances.inc)
file(STRINGS ${PROJECT_SOURCE_DIR}/cuda/instances.inc oscar_instances REGEX "^OSCAR_ATTEND\\(")
set(oscar_cuda_objects "")
foreach(source attend prefill_wide pack prefill append votes scatter)
  set(oscar_${source}_objects "")
  set(where GENERAL)
  if(source MATCHES "attend|wide")
    set(where "")
  endif()
  oscar_cuda_object(oscar_${source}_objects ${PROJECT_SOURCE_DIR}/cuda/${source}.cu ${where})
  list(APPEND oscar_cuda_objects ${oscar_${source}_objects})
endforeach()
set(oscar_step_objects ${oscar_append_objects} ${oscar_votes_objects})
list(APPEND oscar_prefill_objects ${oscar_prefill_wide_objects})
foreach(instance ${oscar_instances})
  string(REGEX REPLACE "^OSCAR_ATTEND\\(([0-9]+), ([0-9]+), ([0-9]+), ([0-9]+), ([0-9]+)\\).*" "attend_\\1x\\2_h\\3_k\\4_v\\5"
    name "${instance}")
  set(source ${PROJECT_BINARY_DIR}/cuda/${name}.cu)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include \"attend_instance.cuh\"\n${instance}\n" @ONLY)
  oscar_cuda_object(oscar_cuda_objects ${source})
endforeach()

# The host's side of the engine, by the ordinary compiler.
file(GLOB oscar_engine_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.cpp)
add_library(oscar_engine OBJECT ${oscar_engine_sources})
target_include_directories(oscar_engine PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/cuda ${PROJECT_SOURCE_DIR}/src)
target_include_directories(oscar_engine SYSTEM PRIVATE ${OSCAR_CUDA_INCLUDE})
target_compile_options(oscar_engine PRIVATE ${OSCAR_WARNINGS})
list(APPEND oscar_objects $<TARGET_OBJECTS:oscar_engine> ${oscar_cuda_objects})
list(APPEND oscar_libraries ${OSCAR_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
