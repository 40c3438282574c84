# oscar_cpu_kernels(OUT SOURCES): compiles SOURCES once per instruction set, with OSCAR_ISA as the name of the namespace
# that holds them. They may call nothing from the standard library but <cmath> intrinsics: a template instantiated here
# with AVX-512 could be the copy that the linker keeps for everyone. For the same reason Debug builds them with -Og: at -O0
# inline functions of the language itself would be emitted.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(OSCAR_ISAS scalar avx2 avx512)
  set(OSCAR_ISA_FLAGS_scalar "")
  set(OSCAR_ISA_FLAGS_avx2 -march=haswell)
  set(OSCAR_ISA_FLAGS_avx512 -march=icelake-server -mprefer-vector-width=512)
else()
  set(OSCAR_ISAS scalar)
  set(OSCAR_ISA_FLAGS_scalar "")
endif()

function(oscar_cpu_kernels out sources)
  foreach(isa ${OSCAR_ISAS})
    add_library(oscar_kernels_${isa} OBJECT ${sources})
    target_include_directories(oscar_kernels_${isa} PRIVATE src)
    target_compile_definitions(oscar_kernels_${isa} PRIVATE OSCAR_ISA=${isa})
    target_compile_options(oscar_kernels_${isa} PRIVATE ${OSCAR_WARNINGS} ${OSCAR_NUMERIC_FLAGS} -fno-math-errno
      $<IF:$<CONFIG:Debug>,-Og,-O3> ${OSCAR_ISA_FLAGS_${isa}})
    list(APPEND objects $<TARGET_OBJECTS:oscar_kernels_${isa}>)
  endforeach()
  set(${out} ${objects} PARENT_SCOPE)
endfunction()
