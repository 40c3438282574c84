# What `cmake --install` lays down: the libraries, the header, the CMake package and the pkg-config file. Everything is
# relocatable: an installed tree may be moved, and still works from where it is.
#   component oscar_runtime      liboscar.so.<abi>
#   component oscar_development  the header, the link name, liboscar.a, the CMake package, oscar.pc
include(CMakePackageConfigHelpers)

# Whoever links the static library from C needs the C++ run time beside it; CMake adds it by itself only to projects
# that have enabled C++.
target_link_libraries(oscar_static INTERFACE $<INSTALL_INTERFACE:stdc++> $<INSTALL_INTERFACE:m>)

install(TARGETS oscar oscar_static EXPORT oscar-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT oscar_runtime NAMELINK_COMPONENT oscar_development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT oscar_development)
install(FILES ${PROJECT_SOURCE_DIR}/include/oscar/oscar.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/oscar COMPONENT oscar_development)

set(oscar_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/oscar)
install(EXPORT oscar-targets NAMESPACE oscar:: DESTINATION ${oscar_package_dir} COMPONENT oscar_development)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/oscar-config.cmake.in
  ${PROJECT_BINARY_DIR}/oscar-config.cmake INSTALL_DESTINATION ${oscar_package_dir}
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the API; from then on the major version does.
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(oscar_compatibility SameMinorVersion)
else()
  set(oscar_compatibility SameMajorVersion)
endif()
write_basic_package_version_file(${PROJECT_BINARY_DIR}/oscar-config-version.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY ${oscar_compatibility})
install(FILES ${PROJECT_BINARY_DIR}/oscar-config.cmake ${PROJECT_BINARY_DIR}/oscar-config-version.cmake
  DESTINATION ${oscar_package_dir} COMPONENT oscar_development)

# oscar.pc finds its prefix from its own place, as far as the directories allow it.
set(oscar_pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(oscar_pc_prefix "${CMAKE_INSTALL_PREFIX}")
  set(oscar_pc_libdir "${CMAKE_INSTALL_LIBDIR}")
else()
  file(RELATIVE_PATH oscar_pc_up "/${oscar_pc_dir}" "/")
  string(REGEX REPLACE "/$" "" oscar_pc_up "${oscar_pc_up}")
  set(oscar_pc_prefix "\${pcfiledir}/${oscar_pc_up}")
  set(oscar_pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(oscar_pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
else()
  set(oscar_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(${PROJECT_SOURCE_DIR}/pkgconfig/oscar.pc.in ${PROJECT_BINARY_DIR}/oscar.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/oscar.pc DESTINATION ${oscar_pc_dir} COMPONENT oscar_development)
