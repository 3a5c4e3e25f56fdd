// The pointer by which NVTX finds a statically linked tool. Its headers define it weak and null in every
// object that uses them, so this definition stands in a file without them.
struct nvtxExtModuleInfo_t;

namespace vgpu::detail {

int attach_nvtx_module(nvtxExtModuleInfo_t* module);

// Called so that the linker takes this file from the library.
void attach_nvtx() {}

}  // namespace vgpu::detail

extern "C" {
extern int (*InitializeInjectionNvtxExtension_fnptr)(nvtxExtModuleInfo_t*);
int (*InitializeInjectionNvtxExtension_fnptr)(nvtxExtModuleInfo_t*) = vgpu::detail::attach_nvtx_module;
}
