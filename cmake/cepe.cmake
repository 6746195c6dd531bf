# cepe_library(<folder> SOURCES ... [ALONE ...] [DEPS ...] [PRIVATE_DEPS ...] [TORCH] [LIGHT])
#
# One static library a folder of src/. Its headers are reached as "<folder>/<name>.h", and only by
# targets that name cepe_<folder> among their DEPS: each library exports a directory that holds one
# link, to its own folder, so that an include against the order of the house does not compile.
# TORCH: the library sees LibTorch, and shares one precompiled header with the others that do.
# LIGHT: its time goes into what it calls (LibTorch, src/ops, files): cepe_compile_lightly.
# ALONE: sources whose local names others of the library have too (CEPE_UNITY).
function(cepe_library folder)
  cmake_parse_arguments(ARG "TORCH;LIGHT" "" "SOURCES;ALONE;DEPS;PRIVATE_DEPS" ${ARGN})
  set(target cepe_${folder})
  set(include_dir ${CMAKE_BINARY_DIR}/include/${folder})
  file(MAKE_DIRECTORY ${include_dir})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${include_dir}/${folder} SYMBOLIC)

  add_library(${target} STATIC ${ARG_SOURCES} ${ARG_ALONE})
  cepe_compile_together(${target})
  set_source_files_properties(${ARG_ALONE} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  target_include_directories(${target} PUBLIC ${include_dir})
  target_link_libraries(${target} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
  cepe_compile_options(${target})
  if(ARG_LIGHT)
    cepe_compile_lightly(${target})
  endif()
  if(ARG_TORCH)
    target_link_libraries(${target} PUBLIC cepe::torch)
    cepe_use_torch_pch(${target})
  endif()
  if(COMMAND cepe_install_library)
    cepe_install_library(${target})
  endif()
endfunction()

# cepe_test(<name> SOURCES ... DEPS ... [TORCH] [LABELS ...] [RANKS n]): one GoogleTest program,
# run as one CTest test in the source directory of the project. RANKS: by mpirun, as so many processes.
function(cepe_test name)
  cmake_parse_arguments(ARG "TORCH" "TIMEOUT;RANKS" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE CEPE_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/golden")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  cepe_compile_options(${name})
  cepe_compile_lightly(${name})
  if(ARG_TORCH)
    cepe_use_torch_pch(${name})
  endif()
  if(ARG_RANKS)
    add_test(NAME ${name} COMMAND ${MPIRUN_PROGRAM} ${CEPE_MPIRUN_OPTIONS} -np ${ARG_RANKS} $<TARGET_FILE:${name}>
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  else()
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
  # Threads that spin while they wait take cores from the other tests of `ctest -j`: 300 s for 2 on 16 cores.
  set_tests_properties(${name} PROPERTIES ENVIRONMENT_MODIFICATION OMP_WAIT_POLICY=set:passive)
endfunction()

# Eight sources as one translation unit: headers and their templates cost more than the sources. CUDA's stay alone.
function(cepe_compile_together target)
  # g++ takes a local type of the second source for one of a header.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${CEPE_UNITY} UNITY_BUILD_BATCH_SIZE 8)
endfunction()

# -O1 in place of -O3: 40 % less of the compiler's time for sources without loops of their own that matter, tests among them.
function(cepe_compile_lightly target)
  target_compile_options(${target} PRIVATE $<$<AND:$<CONFIG:Release>,$<COMPILE_LANGUAGE:CXX>>:-O1>)
  # What g++ 13 switches on with -O2 on x86-64 must be as the precompiled header has it.
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13 AND
     CMAKE_SYSTEM_PROCESSOR STREQUAL x86_64)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-munroll-only-small-loops -mvzeroupper>)
  endif()
endfunction()

# -Wno-restrict: g++ 12 reports the insides of std::string there, wrongly (GCC bug 105329). g++ 13 does so of
# std::vector<bool> and std::string (-Warray-bounds, -Wstringop-overflow), and takes a reference to an element for one to its index.
function(cepe_compile_options target)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers>
    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds -Wno-stringop-overflow -Wno-dangling-reference>)
  endif()
  if(CEPE_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${CEPE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${CEPE_SANITIZE})
  endif()
endfunction()

# All targets that see LibTorch compile against one precompiled header, owned by cepe_torch_pch:
# ATen alone costs 20 s a file without it.
function(cepe_use_torch_pch target)
  target_precompile_headers(${target} REUSE_FROM cepe_torch_pch)
  target_link_libraries(${target} PRIVATE cepe::torch)
  target_include_directories(${target} SYSTEM BEFORE PRIVATE ${CEPE_TORCH_DIR}/include)
endfunction()
