# What C and C++ programs build against: headers, the static library, find_package and pkg-config. In a wheel all of it
# lies in the package's folder. Every path is relative to the file that names it and names no folder above the library's,
# so that the whole can be moved and its folder renamed; what install(EXPORT) writes names the folder in a wheel.
include(CMakePackageConfigHelpers)
if(SKBUILD)
  set(CMAKE_INSTALL_INCLUDEDIR fasthash/include)
  set(CMAKE_INSTALL_LIBDIR fasthash/lib)
endif()
include(GNUInstallDirs)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fasthash)

install(DIRECTORY cpp/include/fasthash DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS fasthash ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

# From a folder with such a file to the folders of headers and library.
foreach(name IN ITEMS LIBDIR INCLUDEDIR)
  file(RELATIVE_PATH FASTHASH_FROM_CMAKE_TO_${name} ${CMAKE_INSTALL_FULL_LIBDIR}/cmake/fasthash
       ${CMAKE_INSTALL_FULL_${name}})
  file(RELATIVE_PATH FASTHASH_FROM_PC_TO_${name} ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_${name}})
endforeach()

# Of the libraries that every C++ program is linked with, those that a C program has to name.
set(FASTHASH_CXX_LIBRARIES ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(FILTER FASTHASH_CXX_LIBRARIES INCLUDE REGEX "^(stdc\\+\\+|c\\+\\+|m)$")
list(REMOVE_DUPLICATES FASTHASH_CXX_LIBRARIES)

set(FASTHASH_ARCHIVE ${CMAKE_STATIC_LIBRARY_PREFIX}fasthash${CMAKE_STATIC_LIBRARY_SUFFIX})
get_target_property(FASTHASH_LINK_OPTIONS fasthash INTERFACE_LINK_OPTIONS)
if(NOT FASTHASH_LINK_OPTIONS)
  set(FASTHASH_LINK_OPTIONS "")
endif()
configure_package_config_file(cmake/fasthash-config.cmake.in fasthash-config.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(fasthash-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fasthash-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/fasthash-config-version.cmake DESTINATION ${package_dir})

list(TRANSFORM FASTHASH_CXX_LIBRARIES PREPEND -l OUTPUT_VARIABLE FASTHASH_PC_LIBS)
list(JOIN FASTHASH_PC_LIBS " " FASTHASH_PC_LIBS)
string(REPLACE "LINKER:" "-Wl," FASTHASH_PC_LINK_OPTIONS "${FASTHASH_LINK_OPTIONS}")
list(JOIN FASTHASH_PC_LINK_OPTIONS " " FASTHASH_PC_LINK_OPTIONS)
configure_file(cmake/fasthash.pc.in fasthash.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fasthash.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
