# Third-party libraries, all Debian packages (scripts/setup.sh installs them by name).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
find_path(TOMLPLUSPLUS_INCLUDE_DIR toml++/toml.h REQUIRED)
# What the ranks of a training run meet through: Open MPI on a CPU, NCCL (below LibTorch's c10d) on GPUs.
add_library(cepe_ranks INTERFACE)
add_library(cepe::ranks ALIAS cepe_ranks)
if(CEPE_MPI AND NOT CEPE_SANITIZE)
  pkg_check_modules(OPENMPI REQUIRED IMPORTED_TARGET ompi-c)
  target_link_libraries(cepe_ranks INTERFACE PkgConfig::OPENMPI)
  target_compile_definitions(cepe_ranks INTERFACE OMPI_SKIP_MPICXX)  # its C functions alone
  if(CEPE_TESTS)
    find_program(MPIRUN_PROGRAM mpirun REQUIRED)
    # More ranks than processors, also as root in a container, where one process may not read another's memory.
    set(CEPE_MPIRUN_OPTIONS --allow-run-as-root --oversubscribe --bind-to none
      --mca btl_vader_single_copy_mechanism none)
  endif()
endif()
if(CEPE_TESTS)
  find_package(GTest REQUIRED)
endif()
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # Precompiled headers are cached only with these sloppiness settings.
  set(ENV{CCACHE_SLOPPINESS} "pch_defines,time_macros,include_file_mtime,include_file_ctime")
  foreach(lang CXX CUDA)
    set(CMAKE_${lang}_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE_PROGRAM})
  endforeach()
endif()
