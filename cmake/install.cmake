# What C and C++ programs build against: headers, the static library, find_package and pkg-config. In a wheel all of it
# lies in the package's folder. Every path is relative to the file that names it, so that the whole can be moved.
include(CMakePackageConfigHelpers)
if(SKBUILD)
  set(CMAKE_INSTALL_INCLUDEDIR fasthash/include)
  set(CMAKE_INSTALL_LIBDIR fasthash/lib)
endif()
include(GNUInstallDirs)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fasthash)

install(DIRECTORY cpp/include/fasthash DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS fasthash EXPORT fasthash-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT fasthash-targets NAMESPACE fasthash:: DESTINATION ${package_dir})

# Of the libraries that every C++ program is linked with, those that a C program has to name.
set(FASTHASH_CXX_LIBRARIES ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(FILTER FASTHASH_CXX_LIBRARIES INCLUDE REGEX "^(stdc\\+\\+|c\\+\\+|m)$")
list(REMOVE_DUPLICATES FASTHASH_CXX_LIBRARIES)

configure_package_config_file(cmake/fasthash-config.cmake.in fasthash-config.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(fasthash-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fasthash-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/fasthash-config-version.cmake DESTINATION ${package_dir})

file(RELATIVE_PATH FASTHASH_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" FASTHASH_PC_PREFIX "${FASTHASH_PC_PREFIX}")
file(RELATIVE_PATH FASTHASH_PC_LIBDIR ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH FASTHASH_PC_INCLUDEDIR ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
list(TRANSFORM FASTHASH_CXX_LIBRARIES PREPEND -l OUTPUT_VARIABLE FASTHASH_PC_LIBS)
list(JOIN FASTHASH_PC_LIBS " " FASTHASH_PC_LIBS)
configure_file(cmake/fasthash.pc.in fasthash.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fasthash.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
