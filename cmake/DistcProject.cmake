# What every target of the project shares: the language level, the warnings, the output folders, ccache, the sanitizers.
include(GNUInstallDirs)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON) # LLVM's libraries are in a folder of their own
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(DISTC_CCACHE ccache)
if(DISTC_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${DISTC_CCACHE}")
endif()

find_package(Threads REQUIRED)
add_compile_definitions(DISTC_VERSION="${PROJECT_VERSION}")

if(DISTC_SANITIZE) # -g1: a report needs lines, no more
  add_compile_options(-fsanitize=${DISTC_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${DISTC_SANITIZE})
endif()

# distc_library(name SOURCES... [LINK libs...]): a static library of ours, warnings as errors.
function(distc_warnings target)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Werror;-Wno-unused-parameter>"
    "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>" # clang does not know it
    "$<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror,-Wno-unused-parameter>")
endfunction()

function(distc_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
  target_include_directories(${name} PUBLIC "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}")
  distc_warnings(${name})
endfunction()

# distc_gtest(name SOURCES... [LINK libs...]): a GoogleTest binary under build/test, run by check-distc.
function(distc_gtest name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  find_package(GTest REQUIRED)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE DISTC_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/test/unit")
  distc_warnings(${name})
  set_property(GLOBAL APPEND PROPERTY DISTC_UNIT_TESTS ${name})
  add_test(NAME ${name} COMMAND ${name})
endfunction()
