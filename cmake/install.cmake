# cmake --install, and cpack for an archive: a tree that may stand anywhere. bin/cepe; lib/cepe with the libraries of the
# torch wheel that it needs, and cepe's own; include/cepe; lib/pkgconfig/cepe.pc (cepe.pc.in); share/cepe: settings and
# the shipped model. Only what was built is installed: a build of the program alone, ninja cepe, is enough.
# A CUDA build's program goes on using LibTorch where it stood, several GB, and installs no libraries.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)
if(CEPE_CUDA)
  set(CMAKE_INSTALL_RPATH ${CMAKE_BUILD_RPATH})
else()
  set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib/cepe")
  file(GLOB CEPE_WHEEL_LIBRARIES ${CEPE_NVIDIA_LIB_DIR}/libcudart.so.* ${CEPE_NVIDIA_LIB_DIR}/libcupti.so.*
    ${CEPE_TORCH_DIR}/lib/libgomp.so.1 ${CEPE_TORCH_DIR}/lib/libtorch_cpu.so ${CEPE_TORCH_DIR}/lib/libc10.so)
  install(FILES ${CEPE_WHEEL_LIBRARIES} DESTINATION lib/cepe)
  foreach(wheel torch nvidia_cuda_runtime nvidia_cuda_cupti)
    file(GLOB licences ${CEPE_SITE_PACKAGES}/${wheel}-*.dist-info/licenses/*)
    install(FILES ${licences} DESTINATION share/doc/cepe/${wheel})
  endforeach()
  install(DIRECTORY src/ DESTINATION include/cepe FILES_MATCHING PATTERN "*.h")
endif()
install(DIRECTORY configs models DESTINATION share/cepe)
install(FILES LICENSE DESTINATION share/doc/cepe)

# cepe_install_library(<target>): an archive below lib/cepe, and a name in cepe.pc.
function(cepe_install_library target)
  if(NOT CEPE_CUDA)
    install(TARGETS ${target} ARCHIVE DESTINATION lib/cepe)
    set_property(GLOBAL APPEND PROPERTY CEPE_LIBRARIES ${target})
  endif()
endfunction()

# After all libraries, which src/ adds in the order in which they depend on each other: a linker wants the reverse.
function(cepe_install_pkg_config)
  if(CEPE_CUDA)
    return()
  endif()
  get_property(libraries GLOBAL PROPERTY CEPE_LIBRARIES)
  list(REVERSE libraries)
  list(TRANSFORM libraries PREPEND "-l")
  list(JOIN libraries " " CEPE_PC_LIBRARIES)
  set(CEPE_PC_RANKS "")
  if(CEPE_MPI)
    set(CEPE_PC_RANKS ", ompi-c")
  endif()
  configure_file(cmake/cepe.pc.in cepe.pc @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/cepe.pc DESTINATION lib/pkgconfig)
endfunction()

set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_FILE_NAME cepe-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_VERBATIM_VARIABLES ON)
include(CPack)
