# `cpack -G DEB` in a build configured for /usr makes Debian packages: liboscar<abi>, liboscar-dev and,
# where the program is built, liboscar-tools. packaging/build does
# all of it, and checks the result.
set(CPACK_PACKAGE_NAME oscar)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
# Whoever gives packages to others puts a name and an address here.
set(OSCAR_MAINTAINER "liboscar authors <liboscar@localhost.localdomain>" CACHE STRING "Maintainer of the Debian packages")
set(CPACK_PACKAGE_CONTACT "${OSCAR_MAINTAINER}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "2-bit key/value cache for language models")
set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL oscar_runtime oscar_development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")

set(oscar_runtime_package liboscar${OSCAR_ABI_VERSION})
set(CPACK_DEBIAN_OSCAR_RUNTIME_PACKAGE_NAME ${oscar_runtime_package})
set(CPACK_DEBIAN_OSCAR_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_OSCAR_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_OSCAR_RUNTIME_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/packaging/triggers)
set(CPACK_COMPONENT_OSCAR_RUNTIME_DESCRIPTION
"Keeps the keys and values of a language model at about two bits per element,
and computes attention straight from those bits. This is the shared library.")
set(CPACK_DEBIAN_OSCAR_DEVELOPMENT_PACKAGE_NAME liboscar-dev)
set(CPACK_DEBIAN_OSCAR_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_OSCAR_DEVELOPMENT_PACKAGE_DEPENDS "${oscar_runtime_package} (= ${PROJECT_VERSION}), libstdc++-12-dev | libstdc++-dev")
set(CPACK_COMPONENT_OSCAR_DEVELOPMENT_DESCRIPTION
"Keeps the keys and values of a language model at about two bits per element,
and computes attention straight from those bits. This is the header, the
static library, and what pkg-config and CMake need.")

set(oscar_tools_spdx "")
if(TARGET oscar_program)
  list(APPEND CPACK_COMPONENTS_ALL oscar_tools)
  set(CPACK_DEBIAN_OSCAR_TOOLS_PACKAGE_NAME liboscar-tools)
  set(CPACK_DEBIAN_OSCAR_TOOLS_PACKAGE_SECTION utils)
  set(CPACK_DEBIAN_OSCAR_TOOLS_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR})
  set(CPACK_DEBIAN_OSCAR_TOOLS_PACKAGE_DEPENDS "${oscar_runtime_package} (= ${PROJECT_VERSION})")
  set(CPACK_COMPONENT_OSCAR_TOOLS_DESCRIPTION
"Says what a language model's cache of keys and values costs, whether liboscar
serves it, makes and looks after calibration files, and measures errors and
speed. This is the program oscar.")
  configure_file(${PROJECT_SOURCE_DIR}/packaging/tools.spdx.in ${PROJECT_BINARY_DIR}/tools.spdx @ONLY)
  file(READ ${PROJECT_BINARY_DIR}/tools.spdx oscar_tools_spdx)
endif()

# What every Debian package has to have, and the list of what is linked.
find_program(gzip NAMES gzip)
function(oscar_package_documents component package)
  set(folder ${CMAKE_INSTALL_DATAROOTDIR}/doc/${package})
  install(FILES ${PROJECT_SOURCE_DIR}/packaging/copyright ${PROJECT_BINARY_DIR}/liboscar.spdx
    DESTINATION ${folder} COMPONENT ${component})
  if(gzip)
    install(FILES ${PROJECT_BINARY_DIR}/changelog.gz DESTINATION ${folder} COMPONENT ${component})
  endif()
endfunction()

# A date that is the same for the same sources, for changelog and SPDX.
if(DEFINED ENV{SOURCE_DATE_EPOCH})
  set(oscar_epoch $ENV{SOURCE_DATE_EPOCH})
else()
  set(oscar_epoch 0)
endif()
execute_process(COMMAND date -u -R -d @${oscar_epoch} OUTPUT_VARIABLE oscar_date_rfc OUTPUT_STRIP_TRAILING_WHITESPACE)
execute_process(COMMAND date -u -d @${oscar_epoch} +%Y-%m-%dT%H:%M:%SZ OUTPUT_VARIABLE oscar_date_iso OUTPUT_STRIP_TRAILING_WHITESPACE)
configure_file(${PROJECT_SOURCE_DIR}/packaging/changelog.in ${PROJECT_BINARY_DIR}/changelog @ONLY)
configure_file(${PROJECT_SOURCE_DIR}/packaging/liboscar.spdx.in ${PROJECT_BINARY_DIR}/liboscar.spdx @ONLY)
if(gzip)
  execute_process(COMMAND ${gzip} -9nfk ${PROJECT_BINARY_DIR}/changelog COMMAND_ERROR_IS_FATAL ANY)
endif()
oscar_package_documents(oscar_runtime ${oscar_runtime_package})
oscar_package_documents(oscar_development liboscar-dev)
if(TARGET oscar_program)
  oscar_package_documents(oscar_tools liboscar-tools)
endif()
include(CPack)
