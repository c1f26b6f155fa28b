#include "workerd/posts.h"

#include <errno.h>
#include <stdlib.h>

struct post {
    struct post *next;
    workerd_callback callback;
    void *data;
};

int posts_init(struct posts *posts, uv_loop_t *loop, uv_async_cb wake)
{
    posts->first = NULL;
    posts->last = &posts->first;
    int r = uv_mutex_init(&posts->lock);
    if (r < 0)
        return r;
    r = uv_async_init(loop, &posts->async, wake);
    if (r < 0)
        uv_mutex_destroy(&posts->lock);
    return r;
}

void posts_deinit(struct posts *posts)
{
    uv_mutex_destroy(&posts->lock);
}

int posts_add(struct posts *posts, workerd_callback callback, void *data)
{
    struct post *post = malloc(sizeof(*post)); /* mem_get() has no locks */
    if (post == NULL)
        return -ENOMEM;
    *post = (struct post){.callback = callback, .data = data};
    uv_mutex_lock(&posts->lock);
    *posts->last = post;
    posts->last = &post->next;
    uv_async_send(&posts->async); /* with the lock: once the callback has run, all may be freed */
    uv_mutex_unlock(&posts->lock);
    return 0;
}

void posts_run(struct posts *posts)
{
    uv_mutex_lock(&posts->lock);
    struct post *post = posts->first;
    posts->first = NULL;
    posts->last = &posts->first;
    uv_mutex_unlock(&posts->lock);
    while (post != NULL) {
        struct post *next = post->next;
        post->callback(post->data);
        free(post);
        post = next;
    }
}
