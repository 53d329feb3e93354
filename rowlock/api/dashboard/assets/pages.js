// The pages, by the pattern of their address, and those in the header.

import { page as deadLetters } from "./pages/dead-letters.js";
import { page as job } from "./pages/job.js";
import { page as jobs } from "./pages/jobs.js";
import { page as nowhere } from "./pages/nowhere.js";
import { page as operations } from "./pages/operations.js";
import { page as overview } from "./pages/overview.js";
import { page as queue } from "./pages/queue.js";
import { page as queues } from "./pages/queues.js";
import { page as schedule } from "./pages/schedule.js";
import { page as schedules } from "./pages/schedules.js";
import { page as task } from "./pages/task.js";
import { page as worker } from "./pages/worker.js";
import { page as workers } from "./pages/workers.js";

export const PAGES = {
    "/": overview,
    "/jobs": jobs,
    "/jobs/{id}": job,
    "/queues": queues,
    "/queues/{queue}": queue,
    "/workers": workers,
    "/workers/{worker}": worker,
    "/schedules": schedules,
    "/schedules/{schedule}": schedule,
    "/tasks/{task}": task,
    "/dead-letters": deadLetters,
    "/operations": operations,
    "/nowhere": nowhere,
};

export const SECTIONS = {
    "/": "Overview",
    "/jobs": "Jobs",
    "/queues": "Queues",
    "/workers": "Workers",
    "/schedules": "Schedules",
    "/dead-letters": "Dead letters",
    "/operations": "Operations",
};

/** Pages about jobs of some queues, too: visible for a key limited to queues. */
export const OF_QUEUES = ["/", "/jobs", "/queues", "/dead-letters"];
