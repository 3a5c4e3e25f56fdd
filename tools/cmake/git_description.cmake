# Writes the header OUTPUT with what git says of the checkout SOURCE: ITO_GIT_DESCRIPTION, "" where SOURCE is no
# checkout (an unpacked archive) or there is no git. The file changes only when its text does.
# cmake -DSOURCE=... -DOUTPUT=... -P git_description.cmake
cmake_minimum_required(VERSION 3.25)
set(description "")
find_program(git git)
# An archive unpacked inside another project's checkout must not take that one's name.
if(git AND EXISTS ${SOURCE}/.git)
  execute_process(COMMAND ${git} -C ${SOURCE} describe --always --dirty --tags OUTPUT_VARIABLE description
                  ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#define ITO_GIT_DESCRIPTION \"@description@\"\n" @ONLY)
