# SPDX-License-Identifier: Apache-2.0
#
# Fails if an object file compiled for one ISA defines a symbol that the linker may merge with a copy
# from another file (weak: inline functions, templates, most of the standard library). The merged copy
# could be this one, and then code for any CPU would run instructions that some CPUs lack.
#
#   cmake -DNM=nm -DOBJECTS=a.o,b.o -P check_isa_objects.cmake

string(REPLACE "," ";" objects "${OBJECTS}")
foreach(object IN LISTS objects)
  execute_process(COMMAND "${NM}" --demangle "${object}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "[^\n]* [WVu] [^\n]*" shared "${symbols}")
  if(shared)
    message(FATAL_ERROR "${object} defines a symbol that other files may end up using:\n${shared}\n"
      "Put the function into the ISA's namespace with internal linkage; see csrc/README.md.")
  endif()
endforeach()
