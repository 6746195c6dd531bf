# The one place that knows LibTorch's and CUDA's quirks. Defines cepe::torch and cepe_torch_pch.
#
# CPU: the wheel's own CMake package stops where no CUDA toolkit is installed, so the two libraries
# that a CPU build needs are imported here by hand. libtorch_cpu.so itself wants libcudart and
# libcupti, which two small wheels bring (scripts/setup.sh).
# CUDA: find_package(Torch) on any installed torch of the same version; for which cards: cuda_architectures.cmake.
set(CEPE_TORCH_VERSION 2.11.0)
if(NOT CEPE_PYTHON)
  if(EXISTS ${CMAKE_SOURCE_DIR}/.venv/bin/python)
    set(CEPE_PYTHON ${CMAKE_SOURCE_DIR}/.venv/bin/python)
  else()
    set(CEPE_PYTHON python3)
  endif()
endif()
# No import of torch: that would load the CUDA libraries, which a CPU machine lacks.
execute_process(
  COMMAND ${CEPE_PYTHON} -c
    "import importlib.metadata as m, importlib.util as u, os; print(m.version('torch').split('+')[0] + ';' + os.path.dirname(u.find_spec('torch').origin))"
  OUTPUT_VARIABLE CEPE_TORCH_FOUND OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE CEPE_TORCH_RC ERROR_QUIET)
if(NOT CEPE_TORCH_RC EQUAL 0)
  message(FATAL_ERROR "torch ${CEPE_TORCH_VERSION} was not found by ${CEPE_PYTHON}: run scripts/setup.sh, or name a Python that has it with -DCEPE_PYTHON=...")
endif()
list(GET CEPE_TORCH_FOUND 0 CEPE_TORCH_FOUND_VERSION)
list(GET CEPE_TORCH_FOUND 1 CEPE_TORCH_DIR)
if(NOT CEPE_TORCH_FOUND_VERSION VERSION_EQUAL CEPE_TORCH_VERSION)
  message(FATAL_ERROR "${CEPE_PYTHON} has torch ${CEPE_TORCH_FOUND_VERSION}, cepe needs ${CEPE_TORCH_VERSION}: run scripts/setup.sh, or name another Python with -DCEPE_PYTHON=...")
endif()

add_library(cepe_torch INTERFACE)
add_library(cepe::torch ALIAS cepe_torch)
find_package(OpenMP REQUIRED COMPONENTS CXX)
cmake_path(GET CEPE_TORCH_DIR PARENT_PATH CEPE_SITE_PACKAGES)
set(CEPE_NVIDIA_LIB_DIR ${CEPE_SITE_PACKAGES}/nvidia/cu13/lib)
set(CMAKE_BUILD_RPATH ${CEPE_NVIDIA_LIB_DIR} ${CEPE_TORCH_DIR}/lib)  # what is installed has another: install.cmake

if(CEPE_CUDA)
  include(cuda_architectures)
  set(CMAKE_CUDA_ARCHITECTURES ${CEPE_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # one CUDA runtime in the process: the one that torch loads
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)  # CMake 3.25 knows no CUDA20
  find_package(CUDAToolkit REQUIRED)
  if(NOT TARGET CUDA::nvToolsExt)  # CUDA 13 dropped it; torch's package still asks for it
    add_library(CUDA::nvToolsExt INTERFACE IMPORTED)
    if(TARGET CUDA::nvtx3)
      target_link_libraries(CUDA::nvToolsExt INTERFACE CUDA::nvtx3)
    endif()
  endif()
  list(PREPEND CMAKE_PREFIX_PATH ${CEPE_TORCH_DIR}/share/cmake)
  # torch's package sets flags and architectures for what is compiled after it, for one generation that it is told of.
  # Ours are CMake's own, a target's property.
  set(TORCH_CUDA_ARCH_LIST "9.0")
  set(flags_before "${CMAKE_CUDA_FLAGS}")
  unset(CMAKE_CUDA_ARCHITECTURES)
  find_package(Torch REQUIRED)
  set(CMAKE_CUDA_FLAGS "${flags_before}")
  set(CMAKE_CUDA_ARCHITECTURES ${CEPE_CUDA_ARCHITECTURES})
  target_link_libraries(cepe_torch INTERFACE ${TORCH_LIBRARIES})
  target_compile_definitions(cepe_torch INTERFACE CEPE_CUDA=1)
  # c10d's header of NCCL wants NCCL's own, from the wheel that torch brings or from the system.
  find_path(CEPE_NCCL_INCLUDE_DIR nccl.h HINTS ${CEPE_SITE_PACKAGES}/nvidia/nccl/include ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
  target_include_directories(cepe_ranks SYSTEM INTERFACE ${CEPE_NCCL_INCLUDE_DIR})
  target_compile_definitions(cepe_ranks INTERFACE USE_C10D_NCCL)
  # The wheel's CUDA libraries before the toolkit's. What only torch itself needs of them may be missing where cepe is
  # built; --as-needed drops what torch's package names and cepe does not call.
  target_link_options(cepe_torch INTERFACE -Wl,--allow-shlib-undefined -Wl,--as-needed)
else()
  foreach(lib torch_cpu c10)
    add_library(cepe_lib_${lib} SHARED IMPORTED)
    set_target_properties(cepe_lib_${lib} PROPERTIES IMPORTED_LOCATION ${CEPE_TORCH_DIR}/lib/lib${lib}.so)
  endforeach()
  # The kernels register themselves when the library loads: it must be linked even where no symbol asks for it.
  target_link_libraries(cepe_torch INTERFACE -Wl,--no-as-needed cepe_lib_torch_cpu cepe_lib_c10 -Wl,--as-needed)
  target_include_directories(cepe_torch SYSTEM INTERFACE ${CEPE_TORCH_DIR}/include ${CEPE_TORCH_DIR}/include/torch/csrc/api/include)
endif()
# The wheel's libraries export a std::filesystem of their own, of an older libstdc++. Named first, the system's is found first
# for everybody; a mixture of the two crashes in remove_all. By its path, because where a compiler finds libstdc++.a before
# it, nothing of the archive is taken that the wheel's libraries have too (tests/e2e/link_order.sh checks what came of it).
foreach(name libstdc++.so libstdc++.so.6)
  if(NOT IS_ABSOLUTE "${CEPE_LIBSTDCXX}")
    execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${name}
      OUTPUT_VARIABLE CEPE_LIBSTDCXX OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
endforeach()
if(NOT IS_ABSOLUTE "${CEPE_LIBSTDCXX}")  # a compiler that brings the archive alone
  find_library(CEPE_SYSTEM_LIBSTDCXX NAMES libstdc++.so.6)
  set(CEPE_LIBSTDCXX ${CEPE_SYSTEM_LIBSTDCXX})
  if(NOT CEPE_LIBSTDCXX)
    message(FATAL_ERROR "${CMAKE_CXX_COMPILER}: expected a shared libstdc++, found none")
  endif()
endif()
target_link_options(cepe_torch INTERFACE -Wl,--push-state,--no-as-needed,${CEPE_LIBSTDCXX},--pop-state)
# libtorch_cpu finds cudart and cupti through its own run path; -rpath-link lets the linker see them too.
target_link_options(cepe_torch INTERFACE -Wl,-rpath-link,${CEPE_NVIDIA_LIB_DIR} -Wl,-rpath-link,${CEPE_TORCH_DIR}/lib)
# at::parallel_for runs its loop through OpenMP only where the including file is compiled with it. The wheel brings
# its own libgomp.so.1: linking that very file, instead of the compiler's, leaves one OpenMP runtime in the process.
# clang's code calls libomp, which has libgomp's functions, too, and serves LibTorch as well where it comes first.
if(EXISTS ${CEPE_TORCH_DIR}/lib/libgomp.so.1 AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  add_library(cepe_lib_gomp SHARED IMPORTED)
  set_target_properties(cepe_lib_gomp PROPERTIES IMPORTED_LOCATION ${CEPE_TORCH_DIR}/lib/libgomp.so.1)
  target_compile_options(cepe_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${OpenMP_CXX_FLAGS}>)
  target_link_libraries(cepe_torch INTERFACE cepe_lib_gomp)
else()
  target_link_libraries(cepe_torch INTERFACE OpenMP::OpenMP_CXX)
endif()

# The wheel's include directory carries a newer fmt than Debian's, without its library: files that see LibTorch use it
# header-only. Its symbols have their own inline namespace, so both versions live in one program. The wheel's directory
# stands first (cepe_use_torch_pch), so that a fmt that is installed elsewhere than in /usr is not seen before it.
target_compile_definitions(cepe_torch INTERFACE FMT_HEADER_ONLY=1)

file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/torch_pch.cc CONTENT "// Owner of the precompiled header.\n")  # as it is, if it is
add_library(cepe_torch_pch STATIC ${CMAKE_BINARY_DIR}/torch_pch.cc)
target_link_libraries(cepe_torch_pch PUBLIC cepe::torch fmt::fmt nlohmann_json::nlohmann_json)
target_include_directories(cepe_torch_pch SYSTEM BEFORE PRIVATE ${CEPE_TORCH_DIR}/include)
target_precompile_headers(cepe_torch_pch PRIVATE
  <ATen/ATen.h> <ATen/Parallel.h> <ATen/core/grad_mode.h>
  <fmt/format.h> <nlohmann/json.hpp> <filesystem> <functional> <map> <optional> <string> <vector>)
cepe_compile_options(cepe_torch_pch)
