/* Modules: shared objects that register methods. They stay loaded, since calls may run in them. */

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "workerd/workerd.h"

int workerd_load(struct workerd *worker, const char *path)
{
    char local[4096];
    /* dlopen() looks a bare name up in the library path; here it is a file like any other. */
    if (strchr(path, '/') == NULL) {
        if ((size_t)snprintf(local, sizeof(local), "./%s", path) >= sizeof(local))
            return -ENAMETOOLONG;
        path = local;
    }
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (module == NULL) {
        log_error("cannot load module: %s", dlerror());
        return -ENOENT;
    }
    int (*init)(struct workerd *);
    *(void **)&init = dlsym(module, "workerd_module_init");
    if (init == NULL) {
        log_error("%s is no module: it exports no workerd_module_init", path);
        dlclose(module);
        return -ENOEXEC;
    }
    int r = init(worker);
    if (r < 0)
        log_error("module %s: workerd_module_init failed: %s", path, strerror(-r));
    else if (r > 0)
        log_error("module %s: workerd_module_init returned %d", path, r);
    else
        log_info("module %s is loaded", path);
    return r > 0 ? -EINVAL : r;
}
