// What translated modules include.
#pragma once

#include "tools/vgpu/device/control.h"
#include "tools/vgpu/device/convert.h"
#include "tools/vgpu/device/floating.h"
#include "tools/vgpu/device/integer.h"
#include "tools/vgpu/device/matrix.h"
#include "tools/vgpu/device/memory.h"
#include "tools/vgpu/device/thread.h"
