"""The enrolment desk: a process of its own that signs certificates, and who asks it."""
