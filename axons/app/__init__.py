"""The platform: settings, tables, services, jobs, REST and the applications that Ray Serve runs."""
