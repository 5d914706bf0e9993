// A Vulkan driver in the place of Chromium's SwiftShader: Mesa's lavapipe, which says that it is SwiftShader. For WebGPU on the CPU
// Chromium takes a driver by vendor and device alone.
//
// cc -shared -fPIC -DLAVAPIPE='"/path/of/libvulkan_lvp.so"'

#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

typedef void (*function)(void);
typedef function (*lookup)(void *instance, const char *name);
typedef void (*facts)(void *device, uint32_t *properties);

// Of lavapipe.
static facts plain, extended;

static void *lavapipe(const char *name) {
  static void *library;
  if (!library) library = dlopen(LAVAPIPE, RTLD_NOW | RTLD_LOCAL);
  return library ? dlsym(library, name) : 0;
}

// VkPhysicalDeviceProperties: apiVersion, driverVersion, vendorID, deviceID ..
static void disguise(uint32_t *properties) {
  properties[2] = 0x1ae0;
  properties[3] = 0xc0de;
}

static void get_properties(void *device, uint32_t *properties) {
  plain(device, properties);
  disguise(properties);
}

// VkPhysicalDeviceProperties2: the same, behind a type and a pointer.
static void get_properties2(void *device, uint32_t *properties) {
  extended(device, properties);
  disguise(properties + 4);
}

EXPORTED function vkGetInstanceProcAddr(void *instance, const char *name);

EXPORTED function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
  lookup real = (lookup)lavapipe("vk_icdGetInstanceProcAddr");
  function found = real ? real(instance, name) : 0;
  if (!found) return 0;
  if (strcmp(name, "vkGetInstanceProcAddr") == 0) return (function)vkGetInstanceProcAddr;
  if (strcmp(name, "vkGetPhysicalDeviceProperties") == 0) {
    plain = (facts)found;
    return (function)get_properties;
  }
  if (strcmp(name, "vkGetPhysicalDeviceProperties2") == 0 || strcmp(name, "vkGetPhysicalDeviceProperties2KHR") == 0) {
    extended = (facts)found;
    return (function)get_properties2;
  }
  return found;
}

// Dawn opens the library itself, without a loader.
EXPORTED function vkGetInstanceProcAddr(void *instance, const char *name) { return vk_icdGetInstanceProcAddr(instance, name); }

EXPORTED function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {
  lookup real = (lookup)lavapipe("vk_icdGetPhysicalDeviceProcAddr");
  return real && real(instance, name) ? vk_icdGetInstanceProcAddr(instance, name) : 0;
}

EXPORTED int32_t vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
  int32_t (*negotiate)(uint32_t *) = (int32_t (*)(uint32_t *))lavapipe("vk_icdNegotiateLoaderICDInterfaceVersion");
  return negotiate ? negotiate(version) : -9; // VK_ERROR_INCOMPATIBLE_DRIVER
}
