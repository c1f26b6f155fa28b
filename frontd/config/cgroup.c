#include "frontd/config/cgroup.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

enum {
    LINE_SIZE = PATH_MAX + 512, /* a longer one is of no use here: paths are below PATH_MAX */
    FIELDS_BEFORE = 4, /* the mount point, in a line of mountinfo: ID, parent, device, root */
};

const struct cgroup_files cgroup_self = {
    "/proc/self/cgroup", "/proc/self/mountinfo", "/sys/fs/cgroup"};

/* The next line that fits, without its end; longer ones are passed over. */
static bool next_line(FILE *file, char line[LINE_SIZE])
{
    bool whole = true; /* the next bytes begin a line */
    while (fgets(line, LINE_SIZE, file) != NULL) {
        size_t n = strlen(line);
        bool ends = (n > 0 && line[n - 1] == '\n') || feof(file);
        if (whole && ends) {
            line[strcspn(line, "\n")] = '\0';
            return true;
        }
        whole = ends;
    }
    return false;
}

/* Whether a list such as "cpu,cpuacct" has the word. */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p != NULL; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, word, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    }
    return false;
}

/* Spaces, tabs, line ends and backslashes in mountinfo's paths are octal: "\040" (proc(5)). */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; to++) {
        bool octal = from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
                     from[2] <= '7' && from[3] >= '0' && from[3] <= '7';
        *to = octal ? (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0')) : *from;
        from += octal ? 4 : 1;
    }
    *to = '\0';
}

/* A mount of a hierarchy, or of a part of one. The texts are in the line. */
struct mount {
    const char *root; /* the group that is mounted there */
    const char *point;
};

/*
 * "36 35 0:30 ROOT POINT rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"; with version 1 the
 * type is "cgroup", and the controllers are among the last options. Cuts the line up.
 */
static bool read_mount(char *line, const char *controller, struct mount *ret_mount)
{
    char *save;
    char *dash = strstr(line, " - ");
    if (dash == NULL)
        return false;
    *dash = '\0';
    const char *type = strtok_r(dash + 3, " ", &save);
    strtok_r(NULL, " ", &save); /* the source */
    const char *options = strtok_r(NULL, " ", &save);
    if (type == NULL || options == NULL)
        return false;
    if (controller == NULL ? strcmp(type, "cgroup2") != 0
                           : strcmp(type, "cgroup") != 0 || !has_word(options, controller))
        return false;
    char *root = strtok_r(line, " ", &save);
    for (int i = 1; root != NULL && i < FIELDS_BEFORE; i++)
        root = strtok_r(NULL, " ", &save);
    char *point = root == NULL ? NULL : strtok_r(NULL, " ", &save);
    if (point == NULL)
        return false;
    unescape(root);
    unescape(point);
    *ret_mount = (struct mount){root, point};
    return root[0] == '/' && point[0] == '/';
}

struct walk {
    const struct cgroup_files *files;
    const char *controller;
    void (*look)(void *data, const char *folder, bool version_2);
    void *data;
};

/*
 * Calls look() for the groups from `group` ("/a/b", below the mount point; "" or "/" is the mount
 * point itself) upwards.
 */
static void climb(const struct walk *walk, const char *point, const char *group, bool version_2)
{
    char folder[PATH_MAX];
    size_t base = strlen(point);
    int n = snprintf(folder, sizeof(folder), "%s%s", point, group);
    if (n < 0 || (size_t)n >= sizeof(folder))
        return;
    while (true) {
        walk->look(walk->data, folder, version_2);
        char *slash = strrchr(folder + base, '/');
        if (slash == NULL)
            return;
        *slash = '\0';
    }
}

/* The path of a group below another one; NULL: it is not below it. */
static const char *below(const char *group, const char *root)
{
    size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(group, root, n) != 0 || (group[n] != '/' && group[n] != '\0'))
        return NULL;
    return group + n;
}

/*
 * Groups outside of this process's namespace have names such as "/../a"; their folders are not
 * visible here.
 */
static bool is_outside(const char *group)
{
    return strcmp(group, "/..") == 0 || strncmp(group, "/../", 4) == 0;
}

/*
 * Goes through all mounts that contain the group; where mountinfo has none, through the usual
 * place.
 */
static void look_from(const struct walk *walk, const char *group, bool version_2)
{
    char line[LINE_SIZE];
    char usual[PATH_MAX];
    struct mount mount;
    bool found = false;
    FILE *file = walk->files->mountinfo == NULL ? NULL : fopen(walk->files->mountinfo, "re");
    while (file != NULL && next_line(file, line)) {
        if (!read_mount(line, version_2 ? NULL : walk->controller, &mount))
            continue;
        const char *inside = is_outside(group) ? NULL : below(group, mount.root);
        if (inside == NULL)
            continue;
        climb(walk, mount.point, inside, version_2);
        found = true;
    }
    if (file != NULL)
        fclose(file);
    int n = snprintf(usual, sizeof(usual), "%s%s%s", walk->files->root, version_2 ? "" : "/",
        version_2 ? "" : walk->controller);
    if (!found && n > 0 && (size_t)n < sizeof(usual))
        climb(walk, usual, is_outside(group) ? "" : group, version_2);
}

void cgroup_each(const struct cgroup_files *files, const char *controller,
    void (*look)(void *data, const char *folder, bool version_2), void *data)
{
    const struct walk walk = {files, controller, look, data};
    char line[LINE_SIZE];
    FILE *file = fopen(files->cgroup, "re");
    while (file != NULL && next_line(file, line)) { /* "4:cpu,cpuacct:/a"; version 2: "0::/a" */
        char *controllers = strchr(line, ':');
        char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL)
            continue;
        *group++ = '\0';
        controllers++;
        bool version_2 = *controllers == '\0';
        if (group[0] == '/' && (version_2 || has_word(controllers, controller)))
            look_from(&walk, group, version_2);
    }
    if (file != NULL)
        fclose(file);
}

bool cgroup_line(const char *folder, const char *name, char *ret_line, size_t size)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = n > 0 && (size_t)n < sizeof(path) ? fopen(path, "re") : NULL;
    if (file == NULL)
        return false;
    bool there = fgets(ret_line, (int)size, file) != NULL;
    bool ends = there && (strchr(ret_line, '\n') != NULL || fgetc(file) == EOF);
    fclose(file);
    if (there)
        ret_line[strcspn(ret_line, "\n")] = '\0';
    return ends;
}

uint64_t cgroup_take_number(const char **text)
{
    char *end;
    if (**text < '0' || **text > '9')
        return UINT64_MAX;
    errno = 0;
    uint64_t number = strtoull(*text, &end, 10);
    if (errno != 0 || (*end != '\0' && *end != ' '))
        return UINT64_MAX;
    *text = end + strspn(end, " ");
    return number;
}
