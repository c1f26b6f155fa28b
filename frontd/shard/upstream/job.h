#pragma once

/*
 * A call as pools and workers see it: a frame that waits for a worker, or for a worker's answer.
 * Deadlines and clients are the business of what made it (call.h).
 */

#include "common/buf.h"
#include "common/idmap.h"
#include "frontd/shard/upstream/queue.h"
#include "proto/errors.h"
#include "proto/frame.h"

struct answer;
struct pool;
struct worker;

enum {
    JOB_ID_DIGITS = 20, /* a call id in the body of http.request, padded with spaces */
    JOB_LEFT_DIGITS = 10,
};

enum job_state { JOB_IDLE, JOB_QUEUED, JOB_SENT };

/* Why a pool refuses a job, with RPC_OVERLOADED. */
enum job_refusal {
    JOB_NOT_REFUSED,
    JOB_REFUSED_FULL, /* the queue is full */
    JOB_REFUSED_WAIT, /* it would be answered too late, with what is before it */
    JOB_REFUSED_LATE, /* its turn has come when no worker answers in time any more */
};

struct job {
    union {
        struct queue_item item;     /* while QUEUED */
        struct {                    /* while SENT */
            struct idmap_node sent; /* in the channel's calls */
            struct worker *worker;  /* it holds a slot of this one */
            struct answer *answer;  /* the parts that have come of a streamed answer; NULL: none */
            uint64_t end;           /* position in the channel's stream after its frame */
            int slot;
            uint32_t unsaid; /* bytes of DATA that no WINDOW has told of yet */
            uint32_t room;   /* bytes of DATA that the worker has room for: of its request */
        };
    };
    struct buf frame; /* the whole REQUEST, kept until the job ends: it may be sent again */
    struct pool *pool;
    uint64_t flow;    /* the client connection that it is from: flows take turns */
    uint64_t hash;    /* of what the pool hashes on */
    uint64_t home;    /* the process that its connection is bound to (worker->home); 0: none */
    uint64_t expires; /* ms: the call's deadline */
    uint64_t sent_at; /* us: when the worker got it; 0: none has it, nor had it when it ended */
    uint32_t left_at; /* where in the frame "deadline_ms" has its 10 digits; 0: nowhere */
    uint32_t id_at;   /* where in the frame the call id has JOB_ID_DIGITS; 0: nowhere */
    /* For workers that take some methods only. Borrowed from the caller until the job has ended. */
    const char *method;
    uint32_t method_len;
    uint8_t state;   /* enum job_state */
    uint8_t tries;   /* how often it has been sent */
    uint8_t refused; /* enum job_refusal */
    bool notify;
    bool idempotent;
    bool abandoned; /* its answer is not waited for */
    bool late;      /* it is abandoned since its deadline has passed */
    bool streams;   /* its answer is relayed part by part: it cannot begin anew */
    bool uploads;   /* parts of its request are still to be sent, behind the frame */
    bool parted;    /* some have been: it cannot begin anew */
    bool orphan;    /* it is abandoned, and its slot was taken back before the worker answered */
};

/* Pool → call. The job is IDLE then, unless said otherwise; the callee frees it, or keeps it. */
struct job_ops {
    /* The worker has answered: frame->body and ->blob, borrowed, and not looked at. */
    void (*answered)(struct job *job, struct worker *worker, const struct frame *frame);
    /* A notification has been put into a worker's channel: there will be no answer. */
    void (*delivered)(struct job *job);
    /* A worker is about to get the job of a connection that may be bound to another one. */
    void (*chosen)(struct job *job, struct worker *worker);
    /* The job has ended without an answer. */
    void (*failed)(struct job *job, enum rpc_error error);
    /*
     * The call has failed, but the worker has more to send for it: the job is SENT still, and the
     * callee abandons it (pool_abandon()).
     */
    void (*given_up)(struct job *job, enum rpc_error error);
    /*
     * `n` bytes more of an answer in parts have come for a job that is SENT and not abandoned.
     * Returns whether they may be held; where not, the callee has abandoned the job.
     */
    bool (*part)(struct job *job, size_t n);
    /*
     * The first part of an answer has come, for a job that is SENT and not abandoned. Returns
     * whether the callee takes it and what follows part by part; where not, the parts are gathered,
     * unless the callee has abandoned the job. NULL: they are gathered.
     */
    bool (*begins)(struct job *job, struct worker *worker, const struct frame *frame);
    /* For one that `uploads`: the worker has room for more of the request. */
    void (*room)(struct job *job);
    /* One that is not the last has come of an answer that is taken so; borrowed. The callee may
     * have abandoned the job, as after given_up(). */
    void (*goes_on)(struct job *job, struct span bytes);
    /* For one that is SENT and not abandoned: its worker tells of progress. Returns NULL, or why
     * that is dropped; static text. */
    const char *(*progress)(struct job *job, struct span text, bool binary);
};

/* Bytes of an answer that a worker may have sent without having been told that there is room for
 * more (protocol section 8). */
enum {
    JOB_WINDOW = 262144,
    JOB_WINDOW_STEP = JOB_WINDOW / 4,
    JOB_ROOM_MAX = 16 * 1024 * 1024, /* that a worker's WINDOWs can add up to */
};

static inline struct span job_method(const struct job *job)
{
    return (struct span){job->method, job->method_len};
}

static inline struct job *job_of_item(struct queue_item *item)
{
    return container_of(item, struct job, item);
}

/*
 * A job's state says which list it is in, and changes with it, by the functions below alone. Each
 * CHECKs that the job is in the state that its comment begins with.
 */

/* Whether there is a move from one state to another. */
bool job_may_become(enum job_state from, enum job_state to);

/* IDLE → QUEUED. As queue_add(): returns 0, or -ENOMEM with the job IDLE still. */
int job_enqueue(
    struct job *job, struct queue *queue, const struct queue_set *set, bool in_front, uint64_t now);

/* QUEUED → IDLE: its turn has come, as queue_serve() says. */
void job_serve(struct job *job, struct queue *queue, uint64_t now);

/* QUEUED → IDLE: it waits no longer, without having been served. */
void job_dequeue(struct job *job, struct queue *queue);

/* QUEUED → IDLE: the first of those that queue_reclass() had no memory for leaves that list. */
struct job *job_take_failed(struct list *failed);

/*
 * IDLE → SENT: a worker is to get it. slot: the worker's, which the job holds from now on. now: us.
 * channel_send_call() follows, and puts it into the channel's calls unless it is a notification.
 */
void job_give(struct job *job, struct worker *worker, int slot, uint64_t now);

/* SENT → IDLE. calls: the channel's, which the job leaves; NULL: it is not in them. */
void job_take_back(struct job *job, struct idmap *calls);
